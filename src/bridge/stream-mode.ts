import { IioError } from '@iio-bridge/protocol';
import type { BlockPath } from '../dataplane/block-path.js';
import type { PlayPath } from '../dataplane/playback.js';

/** How many times the CPU copies samples on their way: not at all, on one side, on both. */
export type StreamMode = 'zero-copy' | 'half-copy' | 'copy';

/**
 * Why a side copies although nobody asked for it. `heap-missing`: this machine has no memory for DMA at all, so every block
 * is ordinary memory; `no-dma-memory`: this block is.
 */
export type FallbackCode =
  | 'no-dmabuf-buffer'
  | 'udc-no-sg'
  | 'kernel-too-old'
  | 'heap-missing'
  | 'no-dma-memory'
  | `iio-attach-failed:${string}`
  | `usb-attach-failed:${string}`;

/** What a stream does, for logs and people. */
export interface StreamPath {
  readonly mode: StreamMode;
  readonly source: BlockPath['source'] | PlayPath['source'];
  readonly sink: BlockPath['sink'] | PlayPath['sink'];
  readonly fallbacks: readonly FallbackCode[];
}

/**
 * The path of a stream, from the path of one of its blocks, in memory of `memory`.
 *
 * The errnos are those of Linux 6.12: IIO_BUFFER_DMABUF_ATTACH gives EPERM where the driver's buffer cannot take
 * dmabufs and ENOTTY or EINVAL before 6.11; FUNCTIONFS_DMABUF_ATTACH gives EPERM where the controller cannot do
 * scatter-gather and ENOTTY before 6.9. ENOMEM stands for a block without a dmabuf.
 */
export function streamPath(path: BlockPath, memory?: { readonly heapIsMissing: boolean }): StreamPath {
  const { source, sink } = path;
  const fallbacks = fallbacksOf({ iio: path.sourceRefusal, usb: path.sinkRefusal }, sink, memory);
  return { mode: modeOf(source, sink), source, sink, fallbacks };
}

/** The path of an output, likewise. */
export function playPath(path: PlayPath, memory?: { readonly heapIsMissing: boolean }): StreamPath {
  const { source, sink } = path;
  const fallbacks = fallbacksOf({ iio: path.sinkRefusal, usb: path.sourceRefusal }, source, memory);
  return { mode: modeOf(sink, source), source, sink, fallbacks };
}

function modeOf(iio: BlockPath['source'] | PlayPath['sink'], usb: BlockPath['sink']): StreamMode {
  const copies = Number(iio !== 'iio-dmabuf') + Number(usb !== 'usb-dmabuf');
  return copies === 0 ? 'zero-copy' : copies === 1 ? 'half-copy' : 'copy';
}

function fallbacksOf(
  refusals: { readonly iio: string | undefined; readonly usb: string | undefined },
  usb: BlockPath['sink'],
  memory: { readonly heapIsMissing: boolean } | undefined,
): readonly FallbackCode[] {
  const fallbacks = new Set<FallbackCode>(memory?.heapIsMissing === true ? ['heap-missing'] : []);
  if (refusals.iio !== undefined) {
    fallbacks.add(iioFallback(refusals.iio));
  }
  // A socket takes no dmabufs, which is no fallback.
  if (refusals.usb !== undefined && usb !== 'tcp') {
    fallbacks.add(usbFallback(refusals.usb));
  }
  return [...fallbacks];
}

/**
 * To be called before a stream starts where the configuration says `stream.require: zero-copy`; `what` names the buffer.
 *
 * @throws {IioError} `EOPNOTSUPP`, with the fallback codes, if a side of it copies.
 */
export function assertZeroCopy({ mode, fallbacks }: Pick<StreamPath, 'mode' | 'fallbacks'>, what: string): void {
  if (mode !== 'zero-copy') {
    const reasons =
      fallbacks.length === 0 ? 'the bridge was told to copy, or the link is a socket' : fallbacks.join(' ');
    throw new IioError(
      'EOPNOTSUPP',
      `${what} would not be streamed without a copy (${mode}: ${reasons}), and the bridge is told to refuse that (stream.require)`,
    );
  }
}

function iioFallback(refusal: string): FallbackCode {
  switch (refusal) {
    case 'EPERM':
      return 'no-dmabuf-buffer';
    case 'ENOTTY':
    case 'EINVAL':
      return 'kernel-too-old';
    case 'ENOMEM':
      return 'no-dma-memory';
    default:
      return `iio-attach-failed:${refusal}`;
  }
}

function usbFallback(refusal: string): FallbackCode {
  switch (refusal) {
    case 'EPERM':
      return 'udc-no-sg';
    case 'ENOTTY':
      return 'kernel-too-old';
    case 'ENOMEM':
      return 'no-dma-memory';
    default:
      return `usb-attach-failed:${refusal}`;
  }
}
