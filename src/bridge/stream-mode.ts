import { IioError } from '@iio-bridge/protocol';
import type { BlockPath } from '../dataplane/block-path.js';

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
  readonly source: BlockPath['source'];
  readonly sink: BlockPath['sink'];
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
  const fallbacks: FallbackCode[] = memory?.heapIsMissing === true ? ['heap-missing'] : [];
  if (path.sourceRefusal !== undefined) {
    fallbacks.push(sourceFallback(path.sourceRefusal));
  }
  // A socket takes no dmabufs, which is no fallback.
  if (path.sinkRefusal !== undefined && path.sink !== 'tcp') {
    fallbacks.push(sinkFallback(path.sinkRefusal));
  }
  const copies = Number(path.source === 'iio-read') + Number(path.sink !== 'usb-dmabuf');
  return {
    mode: copies === 0 ? 'zero-copy' : copies === 1 ? 'half-copy' : 'copy',
    source: path.source,
    sink: path.sink,
    fallbacks: [...new Set(fallbacks)],
  };
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

function sourceFallback(refusal: string): FallbackCode {
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

function sinkFallback(refusal: string): FallbackCode {
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
