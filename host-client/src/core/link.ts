import type { IioError } from '@iio-bridge/protocol';

/**
 * Who waits for a read. Calls instead of a promise, because reads are what happens per block, and a promise with its
 * closures would be most of the garbage of a stream.
 */
export interface ReadSink {
  /**
   * The read ended. `length` bytes of its buffer are valid. `cancelled`: by {@link ReadTransfer.cancel}, and what follows
   * on the wire goes to the next read.
   */
  onRead(length: number, cancelled: boolean): void;
  /** `DISCONNECTED` when the device is gone. */
  onReadFailed(error: IioError): void;
}

/** A read that was handed to the transport. The transport owns the buffer until the sink is called. */
export interface ReadTransfer {
  /**
   * Asks for an early end; bytes that had arrived by then are kept. Not to be called once the sink was, because the object
   * may be in use for another read by then. A transport that cannot take a read back ends it with the next bytes, or when
   * the link is closed.
   */
  cancel(): void;
}

/**
 * One ordered conversation with the server: a USB pipe, or a TCP connection. Owns its transfers; `close()` cancels what
 * is in flight and waits until the transport gave every buffer back.
 */
export interface Link {
  /** For messages: `pipe 1 of usb:1.4.0`. */
  readonly name: string;
  /**
   * Reads must be a multiple of this many bytes, because the other end may always send a whole packet; a read that ends
   * off this grid ended a transfer of the other end. 1 for transports without packets.
   */
  readonly packetSize: number;
  /**
   * Queues a read behind those in flight. Bytes fill the queued buffers in the order of the calls. The sink is called, once
   * and never from inside this call, when the buffer is full (or holds `minimum` bytes), when the other end marked the end
   * of a transfer (USB: a short packet), after a failure, or after `cancel()`.
   * @param minimum where there are no packets: the read is done when this many bytes are there. Default: all of `buffer`
   * @throws IioError `ENOMEM` if the system cannot take one more transfer now, `DISCONNECTED`, `ECANCELED` once closed.
   */
  read(buffer: Uint8Array, sink: ReadSink, minimum?: number): ReadTransfer;
  /**
   * Queues each argument as a transfer of its own, without waiting for the ones before it. The buffers must stay
   * untouched until the promise settles; it rejects with an `IioError` if any of them failed.
   */
  write(...transfers: readonly Uint8Array[]): Promise<void>;
  /** {@link write} of one transfer, for what happens per block; `onFailed` is called if it fails. */
  post(transfer: Uint8Array, onFailed: (error: IioError) => void): void;
  close(): Promise<void>;
}

/** `main` carries attributes and everything that is not samples; each open buffer has a `buffer` link of its own. */
export type LinkRole = 'main' | 'buffer';

/** A way to one IIO context. Owns the device or socket; links must be closed before it. */
export interface Transport {
  /** The URI that finds this very context again, for example `usb:1.4.0`. */
  readonly uri: string;
  /** Human-readable, for example `0456:b673 (Analog Devices Inc. PlutoSDR), serial=1044`. */
  readonly description: string;
  /** Context attributes that the host knows better than the server: `usb,serial`, `usb,idVendor` and so on. */
  readonly attributes: ReadonlyMap<string, string>;
  /** @throws IioError `EBUSY` when every link that the device offers is in use, `DISCONNECTED`. */
  openLink(role: LinkRole): Promise<Link>;
  close(): Promise<void>;
  /**
   * A new transport to the same context after this one was lost: the same serial number on USB, the same address on a
   * network. This transport must be closed before.
   * @throws IioError `NO_CONTEXT`, `DISCONNECTED` while it is not there
   */
  reopen?(): Promise<Transport>;
}
