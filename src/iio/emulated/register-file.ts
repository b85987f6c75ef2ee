import { IioError } from '@iio-bridge/protocol';
import { type EmulatedAttribute, writtenValue } from './emulated-attribute.js';

const MAX_REGISTER = 0xffff_ffff;

/** The registers of a device, 0 at first, and the debug attribute `direct_reg_access` in front of them. */
export class RegisterFile implements EmulatedAttribute {
  readonly #name: string;
  readonly #values = new Map<number, number>();
  #address = 0;

  /** `name` is for messages. */
  constructor(name: string) {
    this.#name = name;
  }

  get(address: number): number {
    return this.#values.get(address) ?? 0;
  }

  set(address: number, value: number): void {
    this.#values.set(address, value >>> 0);
  }

  /** The register whose address was written last. */
  read(): Uint8Array {
    return new TextEncoder().encode(`0x${this.get(this.#address).toString(16).toUpperCase()}\0`);
  }

  /** `address`, or `address value`. @throws {IioError} `EINVAL` */
  write(bytes: Uint8Array): number {
    const words = new TextDecoder().decode(writtenValue(bytes, this.#name)).trim().split(/\s+/);
    const [address, value] = words.map(registerNumber);
    if (address === undefined || words.length > 2 || (words.length === 2 && value === undefined)) {
      throw new IioError('EINVAL', `write ${this.#name}: expected an address, or an address and a value`);
    }
    this.#address = address;
    if (value !== undefined) {
      this.set(address, value);
    }
    return bytes.byteLength;
  }
}

/** As the kernel reads `%i`: hexadecimal with 0x, octal with 0, or decimal. */
function registerNumber(text: string): number | undefined {
  const octal = /^0[0-7]+$/.exec(text);
  const plain = /^(?:0x[\da-f]+|[1-9]\d*|0)$/i.exec(text);
  const value = octal !== null ? Number.parseInt(text, 8) : plain !== null ? Number(text) : Number.NaN;
  return value <= MAX_REGISTER ? value : undefined;
}
