import type { IioError } from '@iio-bridge/protocol';
import type { Link } from './link.js';

/** How a read ended; see `ReadSink`. */
export interface ReadCompletion {
  readonly length: number;
  readonly cancelled: boolean;
}

/** A read as a promise, for what happens rarely. */
export interface PendingRead {
  readonly done: Promise<ReadCompletion>;
  /** A no-op once the read is done. */
  cancel(): void;
}

/** @throws IioError as {@link Link.read} */
export function readOnce(link: Link, buffer: Uint8Array, minimum?: number): PendingRead {
  let cancel: () => void = () => {};
  const done = new Promise<ReadCompletion>((resolve, reject) => {
    const sink = {
      onRead: (length: number, cancelled: boolean) => {
        cancel = () => {};
        resolve({ length, cancelled });
      },
      onReadFailed: (error: IioError) => {
        cancel = () => {};
        reject(error);
      },
    };
    const transfer = link.read(buffer, sink, minimum);
    cancel = () => transfer.cancel();
  });
  return { done, cancel: () => cancel() };
}
