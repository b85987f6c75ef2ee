/** What every entry of the package exports, whatever it runs on. */
export {
  type BlockRecord,
  type Direction,
  type ErrnoName,
  type Generation,
  IioError,
  type RingPolicy,
  type SampleLayout,
  type ScanFormat,
} from '@iio-bridge/protocol';
export type { Attribute, AttributeKind } from './attribute.js';
export { type ContextOptions, DEFAULT_TIMEOUT_MS } from './context.js';
export type { BufferInfo, Channel, Device } from './device.js';
export type { EventStream, EventStreamOptions, IioEvent } from './event-stream.js';
export type { Protocol } from './handshake.js';
export type { Link, LinkRole, ReadSink, ReadTransfer, Transport } from './link.js';
export { type Logger, silentLogger } from './logger.js';
export { type PendingRead, type ReadCompletion, readOnce } from './read-once.js';
export type { RxBlock } from './rx-block.js';
export type { RxStatistics, RxStream, RxStreamOptions } from './rx-stream.js';
export type { Calibration, SampleArray } from './samples.js';
export type { StreamOptions } from './stream-plan.js';
export type { TxBlock, TxStatistics, TxStream, TxStreamOptions } from './tx-stream.js';
