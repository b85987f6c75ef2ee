import { readFile } from 'node:fs/promises';

/** Of the lab's debugfs: every DMA buffer of the system, and the devices that have it attached. */
const BUFINFO = '/sys/kernel/debug/dma_buf/bufinfo';

/** What /proc/PID/maps says: how many mappings a process has, and how many of them are DMA buffers. */
export interface Mappings {
  readonly total: number;
  readonly dmabufs: number;
}

/** Counts the mappings of a process. The kernel names a mapped DMA buffer `/dmabuf:NAME`. */
export async function readMappings(pid: number): Promise<Mappings> {
  const lines = (await readFile(`/proc/${pid}/maps`, 'utf8')).trimEnd().split('\n');
  return { total: lines.length, dmabufs: lines.filter((line) => line.includes('/dmabuf:')).length };
}

/** The devices which each of the system's DMA buffers is attached to, one element per buffer. */
export async function readAttachments(): Promise<readonly (readonly string[])[]> {
  const attachments: string[][] = [];
  let devices: string[] | undefined;
  for (const line of (await readFile(BUFINFO, 'utf8')).split('\n')) {
    // drivers/dma-buf/dma-buf.c, dma_buf_debug_show(): the names follow, one a line, up to their total.
    if (line.trim() === 'Attached Devices:') {
      devices = [];
      attachments.push(devices);
    } else if (line.startsWith('Total')) {
      devices = undefined;
    } else if (line.trim() !== '') {
      devices?.push(line.trim());
    }
  }
  return attachments;
}
