import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import type { GuestProcess } from '../../lab/guest-process.js';
import type { Machine } from '../../lab/machine.js';
import { checkoutRoot } from '../../lab/paths.js';

/** Debian's, which has libiio's bindings; another `python3` may come first in the PATH. */
const PYTHON = '/usr/bin/python3';

export function pythonProgram(name: string, ...words: readonly string[]): string[] {
  return [PYTHON, join(checkoutRoot(), 'lab/programs', name), ...words];
}

/** The host's end of USB transfers, one by one: see lab/programs/usb_link.py. Ends with the test. */
export class UsbLink {
  readonly process: GuestProcess;
  readonly #answers: AsyncIterator<string>;

  private constructor(child: GuestProcess) {
    this.process = child;
    this.#answers = child.stdout[Symbol.asyncIterator]();
  }

  static async claim(machine: Machine): Promise<UsbLink> {
    const child = await machine.spawn(pythonProgram('usb_link.py'));
    onTestFinished(() => child[Symbol.asyncDispose]());
    const link = new UsbLink(child);
    await link.#answer('claimed');
    return link;
  }

  /** One command's answer. */
  async ask(command: string): Promise<string> {
    await this.process.write(`${command}\n`);
    return await this.#answer();
  }

  /** Pipe 0, anew, as libiio's programs open it. */
  async open(): Promise<void> {
    for (const command of ['reset', 'open 0']) {
      const answer = await this.ask(command);
      if (answer !== 'ok') {
        throw new Error(`${command}: ${answer}`);
      }
    }
  }

  /** A text command on pipe 0 and its one-line answer. `length`: of the transfer, with blanks. */
  async command(text: string, length = 0): Promise<string> {
    await this.ask(`line 0 ${length} ${text}`);
    return await this.ask('answer 0');
  }

  async receive(pipe: number, length: number): Promise<Buffer> {
    return Buffer.from(await this.ask(`receive ${pipe} ${length}`), 'hex');
  }

  /** The value of an attribute: what READ answers, without its NUL and the line end. */
  async readText(text: string): Promise<string> {
    const answer = await this.command(text);
    const length = Number(answer);
    if (!(length >= 0)) {
      throw new Error(`${text}: ${answer}`);
    }
    const bytes = await this.receive(0, length + 1);
    return bytes.subarray(0, length).toString().replace(/\0$/, '');
  }

  /** Lets go of the interface. */
  async release(): Promise<void> {
    await this.process.endInput();
    await this.process.exited;
  }

  async #answer(expected?: string): Promise<string> {
    const { value, done } = await this.#answers.next();
    if (done === true || (expected !== undefined && value !== expected)) {
      throw new Error(`usb_link.py: ${value}\n${this.process.output().stderr}`);
    }
    return value;
  }
}

/** Opcodes of the newest numbering (G) that have no sessions of their own here. */
export const OP = {
  print: 1,
  timeout: 2,
  getTrigger: 15,
  setTrigger: 16,
  createEventStream: 26,
  freeEventStream: 27,
  readEvent: 28,
  refreshFormat: 31,
} as const;

export interface BinaryRequest {
  readonly op: number;
  readonly id?: number;
  readonly device?: number;
  readonly code?: number;
}

export interface BinaryAnswer {
  readonly id: number;
  readonly code: number;
}

/** Pipe 0 in the binary protocol, opened as libiio's programs of the newest numbering open it. */
export class BinaryPipe {
  readonly #link: UsbLink;

  private constructor(link: UsbLink) {
    this.#link = link;
  }

  static async open(link: UsbLink): Promise<BinaryPipe> {
    await link.open();
    const answer = await link.command('BINARY');
    if (answer !== '0') {
      throw new Error(`BINARY is answered with ${answer}`);
    }
    const pipe = new BinaryPipe(link);
    await pipe.ask({ op: OP.timeout, code: 2500 });
    const { code: documentBytes } = await pipe.ask({ op: OP.print });
    await pipe.payload(documentBytes);
    const { code: formatBytes } = await pipe.ask({ op: OP.refreshFormat });
    await pipe.payload(formatBytes);
    return pipe;
  }

  async ask(request: BinaryRequest): Promise<BinaryAnswer> {
    await this.send(request);
    return await this.answer();
  }

  async send({ op, id = 0, device = 0, code = 0 }: BinaryRequest): Promise<void> {
    const frame = Buffer.alloc(8);
    frame.writeUInt16LE(id, 0);
    frame.writeUInt8(op, 2);
    frame.writeUInt8(device, 3);
    frame.writeInt32LE(code, 4);
    const sent = await this.#link.ask(`send 0 ${frame.toString('hex')}`);
    if (sent !== 'ok') {
      throw new Error(`operation ${op}: ${sent}`);
    }
  }

  async answer(): Promise<BinaryAnswer> {
    const frame = await this.payload(8);
    return { id: frame.readUInt16LE(0), code: frame.readInt32LE(4) };
  }

  async payload(bytes: number): Promise<Buffer> {
    return await this.#link.receive(0, bytes);
  }
}
