import type { BridgeMode } from '../bench/bridge-process.js';

/** What the demo's guest program is asked to do; its command line is this as JSON. */
export interface GuestRequest {
  readonly mode: BridgeMode;
  /** How long to stream. */
  readonly seconds: number;
}

/** Totals of the stream so far. */
export interface Progress {
  readonly bytes: number;
  /** Since the first block arrived. */
  readonly seconds: number;
  readonly mbPerSecond: number;
  readonly blocks: number;
  /** Places at which sample sets are missing, and how many are. */
  readonly gaps: number;
  readonly lostSamples: number;
  /** Sample sets with a wrong value. */
  readonly mismatches: number;
}

/** How the mode was established: from the bridge's log, and in mid-stream from what the kernel says. */
export interface Evidence {
  readonly mode: string;
  readonly source: string;
  readonly sink: string;
  /** Reasons for not being zero-copy, e.g. `udc-no-sg`. */
  readonly fallbacks: readonly string[];
  /** DMA buffers that are attached to more than one device, and those devices. */
  readonly sharedDmabufs: number;
  readonly sharingDevices: readonly string[];
  readonly bridgePid: number;
  /** The bridge's memory mappings, and how many of them are DMA buffers. */
  readonly mappings: number;
  readonly mappedDmabufs: number;
}

export interface Measurement extends Progress, Evidence {
  readonly device: string;
  readonly blockBytes: number;
  /** Sample sets whose value was checked; all that arrived. */
  readonly verifiedSamples: number;
  readonly bridgeCpuSecondsPerGb: number;
}

export interface Waveform {
  readonly channel: string;
  readonly samples: readonly number[];
  /** Sample sets per second. */
  readonly samplingFrequency: number;
  /** Hz. */
  readonly sineFrequency: number;
}

/** One line of the guest program's standard output, as JSON. */
export type GuestEvent =
  | { readonly event: 'device'; readonly name: string; readonly channels: number; readonly kernel: string }
  | ({ readonly event: 'progress' } & Progress)
  | { readonly event: 'measurement'; readonly result: Measurement }
  | ({ readonly event: 'waveform' } & Waveform)
  | { readonly event: 'stopped'; readonly exitCode: number | null; readonly milliseconds: number };
