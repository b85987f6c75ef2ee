import type { BlockMemory } from './block-memory.js';
import type { Buffers } from './buffers.js';
import type { Config } from './config.js';
import type { ServedContext } from './served-context.js';

/** What all sessions share. */
export interface BridgeState {
  readonly context: ServedContext;
  readonly buffers: Buffers;
  readonly memory: BlockMemory;
  readonly limits: Config['limits'];
}
