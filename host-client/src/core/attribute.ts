import type { Connection } from './connection.js';
import type { AttributeAddress, AttributeKind } from './session.js';

export type { AttributeAddress, AttributeKind } from './session.js';

/** One attribute on the server. Holds no value: each read asks the hardware. */
export class Attribute {
  readonly #address: AttributeAddress;
  readonly #connection: Connection;

  constructor(connection: Connection, address: AttributeAddress) {
    this.#connection = connection;
    this.#address = address;
  }

  get name(): string {
    return this.#address.name;
  }

  /** For messages: `iio:device0/input/voltage0/raw`. */
  get path(): string {
    return this.#address.path;
  }

  get kind(): AttributeKind {
    return this.#address.kind;
  }

  /** As the driver gives it. @throws IioError with the driver's errno, `ETIMEDOUT`, `DISCONNECTED` */
  read(): Promise<string> {
    return this.#connection.perform((session) => session.readAttribute(this.#address));
  }

  /** @throws IioError with the driver's errno, `ETIMEDOUT`, `DISCONNECTED` */
  write(value: string): Promise<void> {
    return this.#connection.perform((session) => session.writeAttribute(this.#address, value));
  }
}
