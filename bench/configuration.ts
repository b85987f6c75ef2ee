/**
 * What carries the samples. `bare`: the C programs of bench/baseline, without bridge or client; `zero-copy` and `copy`:
 * the bridge in that mode, with a bare C client that speaks the protocol, so that a client's own cost is not in it;
 * `typescript`: the bridge in zero-copy with our client; `iiod`: Debian's iiod with libiio, its own client.
 */
export const CHAINS = ['bare', 'zero-copy', 'typescript', 'copy', 'iiod'] as const;
export type Chain = (typeof CHAINS)[number];

/** `rx`: from an ADC to the host; `tx`: from the host to a DAC. */
export const DIRECTIONS = ['rx', 'tx'] as const;
export type Direction = (typeof DIRECTIONS)[number];

/** One line of the table. */
export interface Configuration {
  readonly chain: Chain;
  readonly direction: Direction;
  readonly blockBytes: number;
  /** In circulation. */
  readonly blocks: number;
  /** To move at full speed. */
  readonly totalBytes: number;
  /** Blocks whose latency is measured, at a rate that every chain keeps up with. 0: none. */
  readonly latencyBlocks: number;
}

/** What a client is to move. */
export interface StreamRun {
  readonly direction: Direction;
  readonly blockBytes: number;
  readonly blocks: number;
  readonly totalBytes: number;
  /** Sample sets/s of a timestamped stream, whose latency is measured; otherwise the converter runs freely. */
  readonly rate?: number;
}

/** What every client program prints as JSON: `bench/baseline/stream.c` and `bench/stream-client.ts`. */
export interface StreamReport {
  readonly bytes: number;
  /** From the first block on, which does not count: with it comes what it takes to set a stream up. */
  readonly seconds: number;
  readonly mbPerSecond: number;
  readonly clientCpuSeconds: number;
  /** 0 if the client was not told the server. */
  readonly serverCpuSeconds: number;
  /** Sample sets that were not the expected ones. */
  readonly mismatches: number;
  readonly latency?: Latency;
  readonly loss?: Loss;
  /** Of our client, if asked for. */
  readonly memory?: MemoryReport;
}

/** The memory of a client in JavaScript while it streams, after its first blocks. */
export interface MemoryReport {
  /** Bytes allocated on the JavaScript heap for each block, as a median; absent if the garbage collector ran meanwhile. */
  readonly heapBytesPerBlock?: number;
  /** Resident bytes of the process: the least and the most, looked at from block to block. */
  readonly leastRss: number;
  readonly mostRss: number;
}

/** From when the last sample set of a block was complete to when the client had the block. */
export interface Latency {
  readonly blocks: number;
  readonly p50Us: number;
  readonly p99Us: number;
}

/** Of a converter with a clock: what it had no block for. */
export interface Loss {
  /** How many reports of the server there were, and the sample sets in them. */
  readonly reports: number;
  readonly reportedSets: number;
  /** Sample sets that are missing without a report in all; of servers that report none, all. */
  readonly unreportedSets: number;
  /** Sample sets that were reported with another block than the one they were lost before. */
  readonly misplacedSets: number;
  /** Number of the set that would come next: what was received and what was lost. */
  readonly producedSets: number;
}

/** What one configuration gives. CPU time is that of the device side's process. */
export interface Measurement {
  readonly mbPerSecond: number;
  readonly cpuSecondsPerGb: number;
  readonly cpuMicrosecondsPerBlock: number;
  readonly p50Us?: number;
  readonly p99Us?: number;
  /** In the latency run: above 0, the chain did not keep up. */
  readonly lostSets?: number;
}
