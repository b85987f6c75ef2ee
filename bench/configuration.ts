/**
 * What carries the samples. `bare`: the C programs of bench/baseline, without bridge or client; `zero-copy` and `copy`:
 * the bridge in that mode, read by the TypeScript client; `zero-copy-c-client`: the same, read by a bare C program that
 * speaks the protocol, so that the client's own cost is not in it.
 */
export const CHAINS = ['bare', 'zero-copy-c-client', 'zero-copy', 'copy'] as const;
export type Chain = (typeof CHAINS)[number];

/** One measurement; the guest program's command line is this as JSON. */
export interface Configuration {
  readonly chain: Chain;
  readonly blockBytes: number;
  readonly blocks: number;
  readonly totalBytes: number;
}

/** What the guest program prints. */
export interface Measurement {
  /** As the host side received it, from the first transfer or block on. */
  readonly mbPerSecond: number;
  /** CPU time of the device side's process. */
  readonly cpuSecondsPerGb: number;
  readonly cpuMicrosecondsPerBlock: number;
}
