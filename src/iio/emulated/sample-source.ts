/** Where the samples of an emulated input come from. */
export interface SampleSource {
  /** Sets the rate itself, because it waits for another converter. */
  readonly followsAnother: boolean;

  /**
   * The next sample sets: at least one, at most `sets`. The bytes are valid until the next call. Rejects when `signal`
   * aborts.
   */
  next(sets: number, signal: AbortSignal): Promise<Uint8Array>;

  /** Called once, when no call is pending. */
  close(): Promise<void>;
}

/** Bytes that are made, sent or played in one go: so little that other work is not held up noticeably. */
export const CHUNK_BYTES = 64 * 1024;
