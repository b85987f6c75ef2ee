import { encodeU64, type Operation, packCode } from '@iio-bridge/protocol';
import type { ControlLink } from './control-link.js';

export type AttributeKind = 'device' | 'debug' | 'channel' | 'buffer';

const OPERATIONS = {
  device: ['READ_ATTR', 'WRITE_ATTR'],
  debug: ['READ_DBG_ATTR', 'WRITE_DBG_ATTR'],
  channel: ['READ_CHN_ATTR', 'WRITE_CHN_ATTR'],
  buffer: ['READ_BUF_ATTR', 'WRITE_BUF_ATTR'],
} as const satisfies Record<AttributeKind, readonly [Operation, Operation]>;

/** Where an attribute is, in the numbers of the wire. */
export interface AttributeAddress {
  readonly kind: AttributeKind;
  readonly deviceIndex: number;
  /** Channel position or buffer index; 0 for device and debug attributes. */
  readonly subIndex: number;
  /** Rank among the attributes of its list, by name. */
  readonly attributeIndex: number;
}

const decoder = new TextDecoder();
const encoder = new TextEncoder();

/** One attribute on the server. Holds no value: each read asks the hardware. */
export class Attribute {
  readonly name: string;
  /** For messages: `iio:device0/voltage0/raw`. */
  readonly path: string;
  readonly #address: AttributeAddress;
  readonly #control: ControlLink;

  constructor(control: ControlLink, name: string, path: string, address: AttributeAddress) {
    this.#control = control;
    this.name = name;
    this.path = path;
    this.#address = address;
  }

  /** @throws IioError with the driver's errno, `ETIMEDOUT`, `DISCONNECTED` */
  async read(): Promise<string> {
    const [operation] = OPERATIONS[this.#address.kind];
    const { payload } = await this.#control.request({
      operation,
      device: this.#address.deviceIndex,
      code: this.#code,
      answer: 'payload',
      what: `read ${this.path}`,
    });
    const end = payload.indexOf(0);
    return decoder.decode(end < 0 ? payload : payload.subarray(0, end));
  }

  /** @throws IioError with the driver's errno, `ETIMEDOUT`, `DISCONNECTED` */
  async write(value: string): Promise<void> {
    const [, operation] = OPERATIONS[this.#address.kind];
    // With the terminating NUL, which servers expect and count.
    const bytes = encoder.encode(`${value}\0`);
    await this.#control.request({
      operation,
      device: this.#address.deviceIndex,
      code: this.#code,
      payload: [encodeU64(bytes.length), bytes],
      answer: 'status',
      what: `write '${value}' to ${this.path}`,
    });
  }

  get #code(): number {
    return packCode(this.#address.attributeIndex, this.#address.subIndex);
  }
}
