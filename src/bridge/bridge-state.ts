import type { DataPlane } from '../dataplane/data-plane.js';
import type { BlockMemory } from './block-memory.js';
import type { BufferStatistics } from './buffer-statistics.js';
import type { Buffers } from './buffers.js';
import type { Clients } from './client.js';
import type { Config, Permissions } from './config.js';
import type { ContextServer } from './context-server.js';
import type { InputEnvironment } from './input-capture.js';
import type { ClientTimeouts } from './text/client-timeouts.js';
import type { SharedBuffers } from './text/shared-buffers.js';

/** What all sessions on one kind of link share. Buffers and memory are the same for all kinds. */
export interface BridgeState {
  /** As far as clients of this kind of link may use them: {@link permissions} are kept by their backends. */
  readonly contexts: ContextServer;
  /** Each session belongs to one of these, and serves the context that it knows. */
  readonly clients: Clients;
  readonly buffers: Buffers;
  /** What `buffers` is to binary clients, this is to text clients. */
  readonly sharedBuffers: SharedBuffers;
  readonly timeouts: ClientTimeouts;
  readonly memory: BlockMemory;
  readonly inputs: InputEnvironment;
  /** Shown by the contexts' backends as attributes of buffers. */
  readonly statistics: BufferStatistics;
  readonly limits: Config['limits'];
  readonly stream: Config['stream'];
  readonly permissions: Permissions;
  readonly protocol: Config['protocol'];
  readonly dataPlane: DataPlane;
}
