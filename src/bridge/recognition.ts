import {
  type ContextDescription,
  codeHigh,
  codeLow,
  type DeviceDescription,
  type FrameHeader,
  type Generation,
  type Operation,
  operationOf,
  packCode,
} from '@iio-bridge/protocol';
import { REGISTER_ATTRIBUTE } from '../iio/registers.js';
import type { Client, NumberingFamily } from './client.js';

/** What a link can tell about the objects that a request names. */
export interface Surroundings {
  readonly description: ContextDescription;
  /** The numbering of the client that has the buffer open; undefined if it is not open. */
  bufferFamily(device: number, buffer: number): NumberingFamily | undefined;
  hasEventStream(clientId: number): boolean;
}

/** Opcodes up to this one mean the same in all generations. */
const LAST_COMMON = 6;
const NOP_OF_F = 31;
const NOP_OF_G = 32;

/**
 * The numbering of opcodes that the client of one link uses. Nothing on the wire says it, so it is told from what clients
 * do, as far as the numbers differ:
 *
 *  - Some opcodes exist in some generations only.
 *  - A request that makes sense in one numbering mostly names things in the other that do not exist: attributes that the
 *    document lacks, buffers that nobody has open.
 *  - libiio opens a buffer on a link of its own, as the first thing there after its time-out.
 *  - Having got the document, libiio goes through the channels and reads the scale and offset of each; since generation G,
 *    it asks for the format of each scan element as well.
 *
 * C and D number alike, except that C lacks the last two of D; so do E, F and G, except for their last two.
 */
export class Recognition {
  readonly #configured: Generation | 'auto';
  readonly #client: Client;
  #family: NumberingFamily | undefined;
  #nopIs31: boolean | undefined;
  #previous: Operation | undefined;
  #printed = false;
  /** What libiio reads after PRINT, as far as it has not, while the client does nothing else. */
  #walk: Set<string> | undefined;
  /** The client has gone through the channels, as libiio does, but asked for no format. */
  #skippedFormats = false;

  constructor(configured: Generation | 'auto', client: Client) {
    this.#configured = configured;
    this.#client = client;
  }

  /** The numbering as far as it is known: that of the newest generation which numbers like the client's. */
  get generation(): Generation {
    if (this.#configured !== 'auto') {
      return this.#configured;
    }
    return (this.#family ?? this.#client.family ?? 'new') === 'old' ? 'D' : 'G';
  }

  get family(): NumberingFamily {
    return this.generation <= 'D' ? 'old' : 'new';
  }

  /** What a request asks for; undefined for an opcode that the client's generation lacks. */
  operation(header: FrameHeader, surroundings: Surroundings): Operation | undefined {
    const operation =
      this.#configured === 'auto' ? this.#recognise(header, surroundings) : operationOf(this.#configured, header.op);
    if (operation === 'PRINT') {
      this.#printed = true;
      this.#walk = firstReads(surroundings.description);
    } else {
      this.#follow(operation, header);
    }
    this.#previous = operation;
    return operation;
  }

  #follow(operation: Operation | undefined, { dev, code }: FrameHeader): void {
    if (operation !== 'READ_CHN_ATTR' || this.#walk?.delete(keyOf(dev, code)) !== true) {
      this.#walk = undefined;
    }
    this.#skippedFormats ||= this.#walk?.size === 0;
  }

  #recognise(header: FrameHeader, surroundings: Surroundings): Operation | undefined {
    const { op } = header;
    if (op <= LAST_COMMON) {
      return operationOf('G', op);
    }
    if (op === NOP_OF_F && this.#family !== 'old') {
      return this.#formatOrNop(header);
    }
    if (op === NOP_OF_G) {
      this.#nopIs31 = false;
    }
    const [older, newer] = [operationOf('D', op), operationOf('G', op)];
    if (this.#family === undefined && newer !== undefined) {
      const family = older === undefined ? 'new' : this.#compare(older, newer, header, surroundings);
      if (family === undefined) {
        return this.family === 'old' ? older : newer;
      }
      this.#settle(family);
    }
    return this.#family === 'old' ? older : newer;
  }

  /** The family under which a request makes sense, if it is one. */
  #compare(
    older: Operation,
    newer: Operation,
    header: FrameHeader,
    surroundings: Surroundings,
  ): NumberingFamily | undefined {
    const [old, young] = [
      makesSense(older, 'old', header, surroundings),
      makesSense(newer, 'new', header, surroundings),
    ];
    if (old !== young) {
      return old ? 'old' : 'new';
    }
    if (old && older === 'OPEN_BUFFER' && !this.#printed) {
      return 'old';
    }
    return old && this.#skippedFormats ? 'old' : undefined;
  }

  /** Opcode 31: REFRESH_FORMAT in G, NOP in F, which says neither device nor channel. */
  #formatOrNop({ dev, code }: FrameHeader): Operation {
    this.#settle('new');
    if (dev !== 0 || code !== 0) {
      this.#nopIs31 = false;
    }
    // In G the first channel's format is asked for before anything else; so a first 31 that comes later is no such request.
    this.#nopIs31 ??= this.#printed && this.#previous !== 'PRINT';
    return this.#nopIs31 ? 'NOP' : 'REFRESH_FORMAT';
  }

  #settle(family: NumberingFamily): void {
    this.#family = family;
    this.#client.family = family;
  }
}

/** Whether what a request names exists. */
function makesSense(
  operation: Operation,
  family: NumberingFamily,
  header: FrameHeader,
  surroundings: Surroundings,
): boolean {
  const { clientId, dev, code } = header;
  const device = surroundings.description.devices[dev];
  if (device === undefined) {
    return false;
  }
  const [high, low] = [codeHigh(code), codeLow(code)];
  switch (operation) {
    case 'READ_DEV_EVT_ATTR':
    case 'WRITE_DEV_EVT_ATTR':
      return low === 0 && high < device.eventAttributes.length;
    case 'READ_CHN_EVT_ATTR':
    case 'WRITE_CHN_EVT_ATTR':
      return high < (device.channels[low]?.eventAttributes.length ?? 0);
    case 'WRITE_ATTR':
      return low === 0 && high < device.attributes.length;
    case 'WRITE_DBG_ATTR':
      return low === 0 && high < device.debugAttributes.length;
    case 'WRITE_BUF_ATTR':
      return high < (device.buffers.find(({ index }) => index === low)?.attributes.length ?? 0);
    case 'WRITE_CHN_ATTR':
      return high < (device.channels[low]?.attributes.length ?? 0);
    case 'SETTRIG':
      return code === -1 || isTrigger(surroundings.description.devices[code]);
    case 'OPEN_BUFFER':
      return high === 0 && device.buffers.some(({ index }) => index === low);
    case 'CLOSE_BUFFER':
      return high === 0 && surroundings.bufferFamily(dev, low) === family;
    case 'FREE_BLOCK':
      return surroundings.bufferFamily(dev, low) === family;
    case 'CREATE_EVSTREAM':
      return code === 0 && clientId > 0x7fff;
    case 'FREE_EVSTREAM':
      return surroundings.hasEventStream(code);
    case 'READ_EVENT':
      return surroundings.hasEventStream(clientId);
    case 'REG_READ':
    case 'REG_WRITE':
      return device.debugAttributes.some(({ name }) => name === REGISTER_ATTRIBUTE);
    case 'GETTRIG':
      return true;
    default:
      // The rest arrives on the link that opened the buffer, whose numbering is known since then.
      return false;
  }
}

function isTrigger(device: DeviceDescription | undefined): boolean {
  return device?.id.startsWith('trigger') ?? false;
}

/**
 * The attributes that libiio reads when it has got the document, on its way through all channels; undefined if it would
 * not come across a scan element there, and so ask for no format in any generation.
 */
function firstReads(description: ContextDescription): Set<string> | undefined {
  const reads = new Set<string>();
  const channels = description.devices.flatMap((device, dev) =>
    device.channels.map((channel, position) => ({ channel, dev, position })),
  );
  for (const { channel, dev, position } of channels) {
    for (const [attribute, { name }] of channel.attributes.entries()) {
      if (name === 'scale' || name === 'offset') {
        reads.add(keyOf(dev, packCode(attribute, position)));
      }
    }
  }
  const hasFormats = channels.some(({ channel }) => channel.scanElement !== undefined);
  return hasFormats && reads.size > 0 ? reads : undefined;
}

function keyOf(dev: number, code: number): string {
  return `${dev}:${code}`;
}
