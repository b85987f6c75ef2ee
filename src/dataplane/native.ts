import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { IioError } from '@iio-bridge/protocol';

/** What `native/src/addon.cc` exports. Apart from `shutdown` and what returns a number, everything only
 * posts a command to the data plane's thread. */
export interface NativeDataPlane {
  watchEp0(fd: number): void;
  resumeEp0(): void;
  unwatchEp0(token: number): void;
  openUsbLink(link: number, inFd: number, outFd: number, packetBytes: number): void;
  openSocketLink(link: number, fd: number): void;
  /** The port, or a negative errno. */
  listenTcp(listener: number, address: string, port: number): number;
  accept(listener: number, link: number, token: number): void;
  closeListener(listener: number, token: number): void;
  drain(link: number, limit: number, token: number): void;
  pull(link: number, want: Want, limit: number, token: number): void;
  send(link: number, transfers: readonly Uint8Array[]): void;
  closeLink(link: number): void;
  createCapture(capture: number, iioFd: number, counterFd: number, options: NativeCaptureOptions, token: number): void;
  removeCapture(capture: number, token: number): void;
  addCaptureBlock(capture: number, dmabufFd: number, size: number, token: number): void;
  startCapture(capture: number, samplingHz: number, fifoSets: number, isLossless: boolean, token: number): void;
  stopCapture(capture: number, token: number): void;
  captureStatistics(capture: number, token: number): void;
  createBlockReader(
    reader: number,
    capture: number,
    link: number,
    options: NativeBlockReaderOptions,
    token: number,
  ): void;
  createSampleReader(
    reader: number,
    capture: number,
    link: number,
    sinkByAio: boolean,
    own: number,
    token: number,
  ): void;
  removeReader(reader: number, token: number): void;
  readerStatistics(reader: number, token: number): void;
  createBlock(reader: number, index: number, clientId: number, dmabufFd: number, size: number, token: number): void;
  freeBlock(reader: number, index: number, token: number): void;
  setActive(reader: number, active: boolean, token: number): void;
  setTimeout(reader: number, ms: number): void;
  takeSamples(reader: number, most: number, timeoutMs: number, token: number): void;
  sendSamples(reader: number, most: number, line: string, timeoutMs: number, token: number): void;
  createPlayback(
    playback: number,
    iioFd: number,
    counterFd: number,
    options: NativePlaybackOptions,
    token: number,
  ): void;
  connectPlayback(playback: number, link: number, token: number): void;
  removePlayback(playback: number, token: number): void;
  createOutBlock(
    playback: number,
    index: number,
    clientId: number,
    dmabufFd: number,
    size: number,
    token: number,
  ): void;
  freeOutBlock(playback: number, index: number, token: number): void;
  startPlayback(playback: number, setsPerSecond: number, token: number): void;
  stopPlayback(playback: number, token: number): void;
  settlePlayback(playback: number, token: number): void;
  setPlaybackTimeout(playback: number, ms: number): void;
  writePlayback(playback: number, bytes: number, timeoutMs: number, token: number): void;
  drainPlayback(playback: number, timeoutMs: number, token: number): void;
  receiveBlock(playback: number, index: number, bytes: number, token: number): void;
  repeatBlock(playback: number, index: number, spareFds: readonly number[], size: number, token: number): void;
  playbackState(playback: number, token: number): void;
  /** 0, or a negative errno. */
  openSampleIo(io: number, fd: number): number;
  readSamples(io: number, least: number, most: number, timeoutMs: number, token: number): void;
  writeSamples(io: number, bytes: Uint8Array, timeoutMs: number, token: number): void;
  closeSampleIo(io: number): void;
  setRealtime(priority: number, token: number): void;
  setCpu(cpu: number, token: number): void;
  lockMemory(token: number): void;
  shutdown(): void;
}

export interface NativeCaptureOptions {
  readonly byRead: boolean;
  readonly setBytes: number;
  /** -1: none. */
  readonly timestampOffset: number;
  readonly flows: boolean;
  readonly onDemand: boolean;
  /** RingPolicy in native/src/capture.h. */
  readonly policy: number;
}

export interface NativeBlockReaderOptions {
  readonly device: number;
  readonly buffer: number;
  readonly transferOp: number;
  readonly retryOp: number;
  readonly timeoutMs: number;
  readonly sinkByAio: boolean;
  readonly metadata: boolean;
}

export interface NativePlaybackOptions {
  readonly device: number;
  readonly buffer: number;
  readonly transferOp: number;
  readonly retryOp: number;
  readonly timeoutMs: number;
  readonly sampleBytes: number;
  readonly maxPayloadBytes: number;
  readonly sinkByWrite: boolean;
  readonly sourceByCopy: boolean;
  readonly records: boolean;
}

/** Link::Want in native/src/link.h. */
export const Want = { line: 1, bytes: 2, frame: 3 } as const;
export type Want = (typeof Want)[keyof typeof Want];

export type NativeEventKind = 'done' | 'closed' | 'ep0';
export type NativeEventHandler = (
  kind: NativeEventKind,
  id: number,
  status: number,
  data: Uint8Array | readonly number[] | undefined,
) => void;

interface Addon {
  readonly DataPlane: new (onEvent: NativeEventHandler) => NativeDataPlane;
}

/**
 * Loads the addon and starts the data plane's thread.
 *
 * @throws {IioError} `NO_ADDON` where it has not been built for this machine.
 */
export function startNativeDataPlane(onEvent: NativeEventHandler): NativeDataPlane {
  const require = createRequire(import.meta.url);
  const load: (directory: string) => Addon = require('node-gyp-build');
  let addon: Addon;
  try {
    addon = load(nativeDirectory());
  } catch (error) {
    throw new IioError('NO_ADDON', 'the data plane addon is not built for this machine: run `npm run build`', {
      cause: error,
    });
  }
  return new addon.DataPlane(onEvent);
}

/** The package's `native/` folder, wherever the compiled files stand below the package. */
function nativeDirectory(): string {
  let folder = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(folder, 'native', 'binding.gyp')) && folder !== dirname(folder)) {
    folder = dirname(folder);
  }
  return join(folder, 'native');
}
