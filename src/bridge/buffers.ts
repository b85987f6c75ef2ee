import { IioError } from '@iio-bridge/protocol';
import type { BufferClaim, BufferClaims } from './buffer-claims.js';
import { InputCapture } from './input-capture.js';
import type { OpenBuffer, OpenBufferOptions } from './open-buffer.js';
import { RxBuffer } from './rx-buffer.js';
import { TxBuffer } from './tx-buffer.js';

/** Whose a buffer is: the session that opened it, and the client that this belongs to. */
export interface BufferUser {
  readonly owner: object;
  readonly client: object;
}

interface Member extends BufferUser {
  readonly buffer: Promise<OpenBuffer>;
  opened?: OpenBuffer;
  closing?: Promise<void>;
}

interface Entry {
  readonly claim: BufferClaim;
  /** Of an input. */
  readonly input: Promise<InputCapture> | undefined;
  readonly members: Set<Member>;
}

/**
 * The buffers that binary clients have open. Any link may name any of them; each belongs to the session that opened it
 * and ends with it. An input may be open for several sessions, which have said that they share it. They are known by the
 * device's id, because its position changes when devices come and go.
 */
export class Buffers {
  readonly #claims: BufferClaims;
  readonly #open = new Map<string, Entry>();

  constructor(claims: BufferClaims) {
    this.#claims = claims;
  }

  /**
   * @throws {IioError} `EEXIST` if it is open already and not to be shared, `EBUSY` if text clients have it or those who
   * share it use other channels; what the backend's `openBuffer` throws.
   */
  async open(user: BufferUser, options: OpenBufferOptions): Promise<OpenBuffer> {
    const { device, bufferIndex, stream } = options;
    const key = keyOf(device.id, bufferIndex);
    // Whoever comes back at once, after a program was stopped, need not be told that the buffer is still being closed.
    for (let former = this.#open.get(key); former !== undefined && isClosing(former); former = this.#open.get(key)) {
      await Promise.allSettled(Array.from(former.members, ({ closing }) => closing));
    }
    const existing = this.#open.get(key);
    if (existing === undefined) {
      return await this.#add(key, this.#claim(options), user, options);
    }
    const { input } = existing;
    const isOwn = [...existing.members].some(({ owner, closing }) => owner === user.owner && closing === undefined);
    if (!stream.share || input === undefined || isOwn) {
      throw new IioError('EEXIST', `buffer ${bufferIndex} of ${device.id} is open already`);
    }
    const { requested, mask } = await input;
    if (!options.mask.equals(requested) && !options.mask.equals(mask)) {
      throw new IioError(
        'EBUSY',
        `buffer ${bufferIndex} of ${device.id} is shared with the mask ${requested.toText()}, not ${options.mask.toText()}`,
      );
    }
    return await this.#add(key, existing, user, options);
  }

  /** Undefined if it is not open, or still being opened. */
  peek(deviceId: string, bufferIndex: number, user?: BufferUser): OpenBuffer | undefined {
    const entry = this.#open.get(keyOf(deviceId, bufferIndex));
    const [member] = entry === undefined ? [] : membersFor(entry, user);
    return member?.opened;
  }

  /** @throws {IioError} `EBADF` if it is not open, `EBUSY` if it is not clear which of those who share it is meant. */
  async get(deviceId: string, bufferIndex: number, user: BufferUser): Promise<OpenBuffer> {
    return await this.#member(deviceId, bufferIndex, user).buffer;
  }

  /** @throws {IioError} as {@link get} */
  async close(deviceId: string, bufferIndex: number, user: BufferUser): Promise<void> {
    await this.#close(keyOf(deviceId, bufferIndex), this.#member(deviceId, bufferIndex, user));
  }

  /** The buffers of one session. */
  ownedBy(owner: object): OpenBuffer[] {
    return this.#membersOf(owner).flatMap(([, { opened }]) => opened ?? []);
  }

  /** Closes all that `owner` has open. */
  async closeOwnedBy(owner: object): Promise<void> {
    await Promise.all(this.#membersOf(owner).map(([key, member]) => this.#close(key, member)));
  }

  #claim(options: OpenBufferOptions): Entry {
    const { device, bufferIndex, stream, inputs } = options;
    const isOutput = device.buffers.find(({ index }) => index === bufferIndex)?.direction === 'out';
    return {
      claim: this.#claims.claim(device.id, bufferIndex, 'binary'),
      input: isOutput
        ? undefined
        : InputCapture.open({
            ...options,
            environment: inputs,
            flows: stream.share,
            ring: stream.ring,
            policy: stream.policy,
          }),
      members: new Set(),
    };
  }

  async #add(key: string, entry: Entry, user: BufferUser, options: OpenBufferOptions): Promise<OpenBuffer> {
    const member: Member = { ...user, buffer: openBuffer(options, entry.input) };
    this.#open.set(key, entry);
    entry.members.add(member);
    try {
      member.opened = await member.buffer;
      return member.opened;
    } catch (error) {
      this.#forget(key, member);
      throw error;
    }
  }

  #membersOf(owner: object): (readonly [string, Member])[] {
    return [...this.#open].flatMap(([key, { members }]) =>
      [...members].filter((member) => member.owner === owner).map((member) => [key, member] as const),
    );
  }

  #member(deviceId: string, bufferIndex: number, user: BufferUser): Member {
    const entry = this.#open.get(keyOf(deviceId, bufferIndex));
    const [member, ...others] = entry === undefined ? [] : membersFor(entry, user);
    if (member === undefined) {
      throw new IioError('EBADF', `buffer ${bufferIndex} of ${deviceId} is not open`);
    }
    if (others.length > 0) {
      throw new IioError(
        'EBUSY',
        `buffer ${bufferIndex} of ${deviceId} is shared: send what concerns it on the link that opened it`,
      );
    }
    return member;
  }

  #close(key: string, member: Member): Promise<void> {
    member.closing ??= this.#closeNow(key, member);
    return member.closing;
  }

  async #closeNow(key: string, member: Member): Promise<void> {
    try {
      const buffer = await member.buffer.catch(() => undefined);
      await buffer?.close();
    } finally {
      this.#forget(key, member);
    }
  }

  #forget(key: string, member: Member): void {
    const entry = this.#open.get(key);
    if (entry?.members.delete(member) === true && entry.members.size === 0) {
      entry.claim.release();
      this.#open.delete(key);
    }
  }
}

function isClosing({ members }: Entry): boolean {
  return [...members].every(({ closing }) => closing !== undefined);
}

/** Whom a request may mean: the session's own, or else its client's, or else anybody's. */
function membersFor({ members }: Entry, user: BufferUser | undefined): Member[] {
  const open = [...members].filter(({ closing }) => closing === undefined);
  const own = open.filter(({ owner }) => owner === user?.owner);
  const clients = open.filter(({ client }) => client === user?.client);
  return [own, clients, open].find((candidates) => candidates.length > 0) ?? [];
}

async function openBuffer(options: OpenBufferOptions, input: Promise<InputCapture> | undefined): Promise<OpenBuffer> {
  if (input === undefined) {
    return await TxBuffer.open(options);
  }
  const opened = await input;
  try {
    return await RxBuffer.open(options, opened);
  } catch (error) {
    await opened.closeUnlessUsed();
    throw error;
  }
}

function keyOf(deviceId: string, bufferIndex: number): string {
  return `${deviceId}:${bufferIndex}`;
}
