import {
  type ChannelDescription,
  ChannelMask,
  type ContextDescription,
  contextToXml,
  sampleLayout,
} from '@iio-bridge/protocol';
import type { LinkRole } from '../../../host-client/src/core/link.js';
import { type FakeLink, FakeTransport, type FakeTransportOptions, type LinkServer } from './fake-bus.js';
import { CONTEXT } from './fake-server.js';

export interface FakeTextServerOptions extends Omit<FakeTransportOptions, 'serve'> {
  readonly context?: ContextDescription;
  /** What ZPRINT answers; a server without compression refuses it. */
  readonly compressed?: Uint8Array;
  /** The channels that the server sends, beyond those of the client: positions, for the n-th READBUF. */
  readonly others?: (request: number) => readonly number[];
  /** Most bytes per chunk of a READBUF. */
  readonly chunkBytes?: number;
  /** Return true if the command was dealt with. */
  readonly intercept?: (command: string, answer: (text: string | Uint8Array) => void) => boolean;
}

/** A libiio 0.2x server with the ADC and DAC of {@link CONTEXT}, on fake links. One transfer per item, as on USB. */
export class FakeTextServer {
  readonly transport: FakeTransport;
  readonly log: string[] = [];
  readonly values = new Map<string, string>();
  readonly played: Uint8Array[] = [];
  trigger = '';
  readonly options: FakeTextServerOptions;
  #mask = ChannelMask.empty(4);
  #reads = 0;
  #counter = 0;

  constructor(options: FakeTextServerOptions = {}) {
    this.options = options;
    this.transport = new FakeTransport({ ...options, serve: (link, role) => this.#serve(link, role) });
  }

  get #channels(): readonly ChannelDescription[] {
    return (this.options.context ?? CONTEXT).devices[1]?.channels ?? [];
  }

  #serve(link: FakeLink, role: LinkRole): LinkServer {
    let payload: { readonly bytes: number; readonly done: (bytes: Uint8Array) => void } | undefined;
    const send = (text: string | Uint8Array) => {
      if (!link.isClosed) {
        link.send(typeof text === 'string' ? Buffer.from(text) : text);
      }
    };
    return {
      onClosed: () => {
        this.log.push(`${role}: closed`);
      },
      onTransfer: (bytes) => {
        if (payload !== undefined) {
          const { done } = payload;
          payload = undefined;
          done(bytes);
          return;
        }
        const text = Buffer.from(bytes).toString();
        if (!/^[^\r\n]* ?\r\n$/.test(text) || bytes.length % link.packetSize === 0) {
          throw new Error(`a command line expected, got ${JSON.stringify(text)}`);
        }
        const command = text.trim();
        this.log.push(`${role}: ${command}`);
        if (this.options.intercept?.(command, send) === true) {
          return;
        }
        this.#answer(command, send, (bytes, done) => {
          payload = { bytes, done };
        });
      },
    };
  }

  #answer(
    command: string,
    send: (text: string | Uint8Array) => void,
    expectPayload: (bytes: number, done: (bytes: Uint8Array) => void) => void,
  ): void {
    const [verb = '', , ...words] = command.split(' ');
    switch (verb) {
      case 'BINARY':
        send('-22\n');
        break;
      case 'ZPRINT':
      case 'PRINT': {
        const xml = Buffer.from(contextToXml(this.options.context ?? CONTEXT));
        const document = verb === 'PRINT' ? xml : this.options.compressed;
        if (document === undefined) {
          send('-22\n');
        } else {
          send(`${document.length}\n`);
          send(document);
          send('\n');
        }
        break;
      }
      case 'READ': {
        const value = Buffer.from(`${this.values.get(words.join(' ')) ?? words.join(' ')}\0`);
        send(`${value.length}\n`);
        send(Buffer.concat([value, Buffer.from('\n')]));
        break;
      }
      case 'WRITE':
        expectPayload(Number(words.at(-1)), (bytes) => {
          this.values.set(words.slice(0, -1).join(' '), Buffer.from(bytes).toString().replace(/\0$/, ''));
          send(`${bytes.length}\n`);
        });
        break;
      case 'GETTRIG':
        send(`${this.trigger.length}\n`);
        if (this.trigger !== '') {
          send(`${this.trigger}\n`);
        }
        break;
      case 'SETTRIG':
        this.trigger = words[0] ?? '';
        send('0\n');
        break;
      case 'OPEN':
        this.#mask = ChannelMask.fromText(this.#channels.length, words[1] ?? '');
        this.#counter = 0;
        this.#reads = 0;
        send('0\n');
        break;
      case 'READBUF':
        this.#read(Number(words[0]), send);
        break;
      case 'WRITEBUF':
        send('0\n');
        expectPayload(Number(words[0]), (bytes) => {
          this.played.push(bytes);
          send(`${bytes.length}\n`);
        });
        break;
      default:
        send('0\n');
    }
  }

  /** Sample sets count: the channel at position p of set n has 4 n + p. */
  #read(wanted: number, send: (text: string | Uint8Array) => void): void {
    const others = this.options.others?.(this.#reads++) ?? [];
    const mask = this.#mask.union(ChannelMask.of(this.#channels.length, others));
    const layout = sampleLayout(this.#channels, mask);
    const sets = Math.floor(wanted / layout.bytes);
    const data = Buffer.alloc(sets * layout.bytes);
    for (let set = 0; set < sets; set++, this.#counter++) {
      for (const { offset, position } of layout.channels) {
        data.writeInt16LE(((4 * this.#counter + position) << 16) >> 16, set * layout.bytes + offset);
      }
    }
    const chunk = this.options.chunkBytes ?? data.length;
    for (let at = 0; at < data.length; at += chunk) {
      const piece = data.subarray(at, at + chunk);
      send(`${piece.length}\n`);
      if (at === 0) {
        send(`${mask.toText()}\n`);
      }
      send(piece);
    }
    if (data.length < wanted) {
      send('0\n');
    }
  }
}
