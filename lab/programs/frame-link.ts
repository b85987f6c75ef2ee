import { type Link, readOnce } from '@iio-bridge/host-client';
import {
  decodeFrameHeader,
  encodeFrameHeader,
  type FrameHeader,
  IioError,
  type Operation,
  opcodeOf,
} from '@iio-bridge/protocol';

const GENERATION = 'G';

export interface RequestFields {
  readonly id?: number;
  readonly dev?: number;
  readonly code?: number;
}

/** A link in the binary protocol, without a client library: for what no client does. Owns the link. */
export class FrameLink {
  readonly #link: Link;
  readonly #received: Uint8Array[] = [];
  #length = 0;

  private constructor(link: Link) {
    this.#link = link;
  }

  /** Takes a link in text mode. */
  static async start(link: Link): Promise<FrameLink> {
    const frames = new FrameLink(link);
    await link.write(new TextEncoder().encode('BINARY\r\n'));
    const answer = new TextDecoder().decode(await frames.receive(2));
    if (answer !== '0\n') {
      throw new IioError('EPROTO', `BINARY was answered with '${answer}'`);
    }
    return frames;
  }

  /** The bytes of a request's header. */
  static header(operation: Operation, { id = 0, dev = 0, code = 0 }: RequestFields): Uint8Array {
    const op = opcodeOf(GENERATION, operation);
    if (op === undefined) {
      throw new IioError('EINVAL', `${GENERATION} has no ${operation}`);
    }
    return encodeFrameHeader({ clientId: id, op, dev, code });
  }

  /** Each argument is a transfer of its own. */
  write(...transfers: readonly Uint8Array[]): Promise<void> {
    return this.#link.write(...transfers);
  }

  async ask(operation: Operation, fields: RequestFields = {}, ...payload: readonly Uint8Array[]): Promise<FrameHeader> {
    const [answer] = await Promise.all([this.response(), this.write(FrameLink.header(operation, fields), ...payload)]);
    return answer;
  }

  async response(): Promise<FrameHeader> {
    return decodeFrameHeader(await this.receive(8));
  }

  async receive(bytes: number): Promise<Uint8Array> {
    while (this.#length < bytes) {
      const buffer = new Uint8Array(this.#link.packetSize);
      const { length } = await readOnce(this.#link, buffer).done;
      this.#received.push(buffer.subarray(0, length));
      this.#length += length;
    }
    const all = Buffer.concat(this.#received);
    this.#received.splice(0, this.#received.length, all.subarray(bytes));
    this.#length -= bytes;
    return all.subarray(0, bytes);
  }

  close(): Promise<void> {
    return this.#link.close();
  }
}
