import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { IioError } from '@iio-bridge/protocol';
import { decodeFfsEvents, FFS_EVENT_BYTES, type FfsEvent } from '../../src/ffs/events.js';
import { FunctionFs } from '../../src/ffs/function-fs.js';
import { Gadget } from '../../src/ffs/gadget.js';
import { FunctionFsMount } from '../../src/ffs/mount.js';
import { IioBuffer } from '../../src/iio/buffer.js';
import { DmabufAllocator, heapNames, UDMABUF } from '../../src/iio/heap.js';
import { IIO_BUFFER_DMABUF_ATTACH, IIO_BUFFER_DMABUF_DETACH } from '../../src/iio/uapi.js';
import { errorCode } from '../../src/sys/errors.js';
import { ioctlInt } from '../../src/sys/libc.js';

/**
 * Runs the control plane against the guest's kernel, one scenario per run, and reports as JSON lines. What it is told
 * comes on standard input, one word per line.
 *
 *   control-plane gadget NAME PIPES             serves until `stop`: request 1 is acknowledged, others are stalled
 *   control-plane join NAME GADGET CONFIG       the same inside an existing gadget
 *   control-plane buffer DEVICE CHANNEL...      opens buffer 0 until `close`
 *   control-plane heaps                         a dmabuf of each kind, accepted by an IIO buffer
 */

function report(value: object): void {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}

async function* commands(): AsyncGenerator<string> {
  yield* createInterface({ input: process.stdin });
}

/** Until the word, or the end of input. */
async function awaitCommand(word: string): Promise<void> {
  for await (const line of commands()) {
    if (line === word) {
      return;
    }
  }
}

/**
 * Answers one event after the other, as the data plane does, but with a blocking read; so it needs a descriptor of its
 * own beside the non-blocking one. Ends when the function is unbound.
 */
async function answerEvents(functionFs: FunctionFs): Promise<void> {
  const ep0 = await open(join(functionFs.mountpoint, 'ep0'), 'r');
  try {
    let event: FfsEvent | undefined;
    while (event?.type !== 'unbind') {
      const { buffer, bytesRead } = await ep0.read({ buffer: Buffer.alloc(FFS_EVENT_BYTES), position: null });
      [event] = decodeFfsEvents(buffer.subarray(0, bytesRead));
      if (event === undefined) {
        continue;
      }
      if (event.type === 'setup') {
        const { setup } = event;
        if (setup.request === 1) {
          // What OPEN_PIPE is for: the endpoints of that pipe, before the host hears that they are open.
          const endpoints = await functionFs.openPipe(setup.value);
          endpoints.in.close();
          endpoints.out.close();
          report({ setup, outcome: await functionFs.acknowledge(setup) });
        } else {
          report({ setup, outcome: await functionFs.stall(setup) });
        }
      } else {
        report({ event: event.type });
      }
    }
  } finally {
    await ep0.close();
  }
}

async function serve(gadget: Gadget, pipes: number): Promise<void> {
  const mount = await FunctionFsMount.mount({ name: gadget.functionName });
  const microsoft = { deviceInterfaceGuid: '{01234567-89AB-CDEF-0123-456789ABCDEF}' };
  const functionFs = await FunctionFs.open({ mountpoint: mount.mountpoint, pipes, microsoft });
  const udc = await gadget.bind();
  report({ ready: true, udc, mountpoint: mount.mountpoint });
  const answering = answerEvents(functionFs);
  await awaitCommand('stop');
  await gadget.unbind();
  await answering;
  functionFs.close();
  await mount.unmount();
  await gadget.remove();
  report({ stopped: true });
}

async function openBuffer(device: string, channels: readonly string[]): Promise<void> {
  await using buffer = await IioBuffer.open({ device, index: 0, channels });
  report({ enabled: buffer.enabled.map(({ stem }) => stem) });
  for await (const line of commands()) {
    if (line === 'enable') {
      await buffer.enable({ length: 65536, watermark: 65536 });
      report({ running: true });
    } else if (line === 'disable') {
      await buffer.disable();
      report({ running: false });
    } else if (line === 'close') {
      break;
    }
  }
  await buffer.close();
  report({ closed: true });
}

async function tryHeaps(device: string): Promise<void> {
  await using buffer = await IioBuffer.open({ device, index: 0, channels: ['in_voltage0'] });
  for (const name of [...heapNames(), UDMABUF]) {
    using allocator = DmabufAllocator.open(name);
    using dmabuf = allocator.allocate(100_000);
    // Only a dmabuf can be attached.
    ioctlInt(buffer.fd, IIO_BUFFER_DMABUF_ATTACH, dmabuf.fd, name);
    ioctlInt(buffer.fd, IIO_BUFFER_DMABUF_DETACH, dmabuf.fd, name);
    report({ heap: allocator.name });
  }
}

async function main([scenario, ...words]: readonly string[]): Promise<void> {
  const [first = '', second = '', third = ''] = words;
  switch (scenario) {
    case 'gadget': {
      const identity = {
        idVendor: 0x1209,
        idProduct: 0x0001,
        manufacturer: 'iio-bridge',
        product: 'Control plane',
        serial: '0042',
      };
      return serve(await Gadget.create({ name: first, identity }), Number(second));
    }
    case 'join':
      return serve(await Gadget.create({ name: first, existing: second, config: third }), 1);
    case 'buffer':
      return openBuffer(first, words.slice(1));
    case 'heaps':
      return tryHeaps(first);
    default:
      throw new IioError('EINVAL', `there is no scenario ${scenario}`);
  }
}

try {
  await main(process.argv.slice(2));
} catch (error) {
  report({ code: errorCode(error) ?? null, message: error instanceof Error ? error.message : String(error) });
  process.exitCode = 1;
}
// An open pipe that nobody reads any more would hold the process.
process.stdin.destroy();
