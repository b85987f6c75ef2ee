/** How a read ended. `length` bytes of its buffer are valid in both cases. */
export interface ReadCompletion {
  readonly length: number;
  /** Ended by {@link ReadTransfer.cancel}: what follows on the wire goes to the next read. */
  readonly cancelled: boolean;
}

/** A read that was handed to the transport. The transport owns the buffer until `done` settles. */
export interface ReadTransfer {
  /**
   * Settles when the buffer is full, when the other end marked the end of a transfer (USB: a short packet), or after
   * `cancel()`. Rejects with an `IioError`; `DISCONNECTED` when the device is gone.
   */
  readonly done: Promise<ReadCompletion>;
  /** Asks for an early end; bytes that had arrived by then are kept. A no-op once the read is done. */
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
   * Queues a read behind those in flight. Bytes fill the queued buffers in the order of the calls.
   * @throws IioError `ENOMEM` if the system cannot take one more transfer now, `DISCONNECTED`, `ECANCELED` once closed.
   */
  read(buffer: Uint8Array): ReadTransfer;
  /**
   * Queues each argument as a transfer of its own, without waiting for the ones before it. The buffers must stay
   * untouched until the promise settles; it rejects with an `IioError` if any of them failed.
   */
  write(...transfers: readonly Uint8Array[]): Promise<void>;
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
}
