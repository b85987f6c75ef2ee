import { errnoName, IioError } from '@iio-bridge/protocol';

/** How samples get from the IIO buffer into a block: by the hardware's DMA, or by read(), which copies. */
export type RxSource = 'iio-dmabuf' | 'iio-read';
/**
 * How they get from the block to the host: by the USB controller's DMA, by asynchronous I/O, which copies, or through a
 * socket, which copies as well.
 */
export type RxSink = 'usb-dmabuf' | 'usb-aio' | 'tcp';

/** SourceKind and SinkKind in native/src/block.h, in their order. */
const SOURCES: readonly RxSource[] = ['iio-dmabuf', 'iio-read'];
const SINKS: readonly RxSink[] = ['usb-dmabuf', 'usb-aio', 'tcp'];

/** The way that a block's samples take, and the errno name of what the better way failed with. */
export interface BlockPath {
  readonly source: RxSource;
  readonly sink: RxSink;
  readonly sourceRefusal?: string;
  readonly sinkRefusal?: string;
}

/** A BlockPath of native/src/reader.h. */
export function blockPathOf(numbers: readonly number[]): BlockPath {
  const [source = 0, sink = 0, sourceErrno = 0, sinkErrno = 0] = numbers;
  return {
    source: SOURCES[source] ?? 'iio-read',
    sink: SINKS[sink] ?? 'usb-aio',
    ...(sourceErrno === 0 ? {} : { sourceRefusal: errnoName(sourceErrno) }),
    ...(sinkErrno === 0 ? {} : { sinkRefusal: errnoName(sinkErrno) }),
  };
}

/** An answer of the data plane that consists of numbers. */
export function numbersIn(answer: Uint8Array | readonly number[] | undefined, operation: string): readonly number[] {
  if (answer === undefined || answer instanceof Uint8Array) {
    throw new IioError('EPROTO', `${operation}: the data plane answered without numbers`);
  }
  return answer;
}
