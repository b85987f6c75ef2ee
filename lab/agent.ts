/**
 * Runs in the guest, started by `guest/init.sh`: does what the host asks for over the channel named by its argument, and
 * powers the guest off when the host says so or goes away.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { constants } from 'node:fs';
import { type FileHandle, open, readFile, symlink } from 'node:fs/promises';
import type { Readable } from 'node:stream';
import {
  AGENT_PROTOCOL,
  type AgentEvent,
  type AgentRequest,
  bodiesOf,
  encodeFrame,
  FrameDecoder,
  MAX_BODY,
} from './agent-protocol.js';

const { UV_THREADPOOL_SIZE: _, ...baseEnvironment } = process.env;

function errorFields(error: unknown): { readonly code: string; readonly message: string } {
  const message = error instanceof Error ? error.message : String(error);
  const code = error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : 'EIO';
  return { code, message };
}

/** Owns the channel and the processes that it started; ends only with the guest. */
class Agent {
  readonly #channel: FileHandle;
  readonly #children = new Map<number, ChildProcess>();
  #lastWrite: Promise<void> = Promise.resolve();

  constructor(channel: FileHandle) {
    this.#channel = channel;
  }

  async serve(): Promise<void> {
    await this.#send({ type: 'ready', protocol: AGENT_PROTOCOL });
    const decoder = new FrameDecoder<AgentRequest>();
    for (;;) {
      const buffer = Buffer.allocUnsafe(MAX_BODY);
      const { bytesRead } = await this.#channel.read(buffer, 0, buffer.length, null);
      if (bytesRead === 0) {
        return;
      }
      void this.#send({ type: 'taken', bytes: bytesRead });
      for (const { message, body } of decoder.push(buffer.subarray(0, bytesRead))) {
        if (message.type === 'shutdown') {
          return;
        }
        void this.#answer(message, body);
      }
    }
  }

  killAll(): void {
    for (const child of this.#children.values()) {
      this.#kill(child, 'SIGKILL');
    }
  }

  async #answer(request: Exclude<AgentRequest, { type: 'shutdown' }>, body: Buffer): Promise<void> {
    switch (request.type) {
      case 'ping':
        return this.#send({ type: 'pong' });
      case 'input':
        this.#children.get(request.id)?.stdin?.write(body);
        return;
      case 'end-input':
        this.#children.get(request.id)?.stdin?.end();
        return;
      case 'kill': {
        const child = this.#children.get(request.id);
        if (child !== undefined) {
          this.#kill(child, request.signal);
        }
        return;
      }
    }
    try {
      switch (request.type) {
        case 'spawn':
          return await this.#spawn(request);
        case 'read':
          return await this.#read(request);
        case 'write': {
          const file = await open(request.path, request.append ? 'a' : 'w');
          try {
            await file.write(body);
          } finally {
            await file.close();
          }
          return await this.#send({ type: 'written', id: request.id });
        }
      }
    } catch (error) {
      await this.#send({ type: 'failed', id: request.id, ...errorFields(error) });
    }
  }

  async #spawn({ id, argv, env, cwd }: Extract<AgentRequest, { type: 'spawn' }>): Promise<void> {
    const [program = '', ...args] = argv;
    const child = spawn(program, args, { cwd, env: { ...baseEnvironment, ...env }, detached: true });
    child.stdin.on('error', () => {
      // The process may end before it has read its input; its exit code says what that meant.
    });
    const started = new Promise<void>((resolve, reject) => child.once('spawn', resolve).once('error', reject)).then(
      () => {
        this.#children.set(id, child);
        return this.#send({ type: 'started', id, pid: child.pid ?? 0 });
      },
    );
    const closed = new Promise<readonly [number | null, string | null]>((resolve) =>
      child.once('close', (code, signal) => resolve([code, signal])),
    );
    // The readers start at once: Node throws away what nobody reads when a process ends.
    const [[code, signal]] = await Promise.all([
      closed,
      this.#forward(id, 'stdout', child.stdout, started),
      this.#forward(id, 'stderr', child.stderr, started),
      started,
    ]);
    this.#children.delete(id);
    await this.#send({ type: 'exited', id, code, signal });
  }

  async #forward(id: number, stream: 'stdout' | 'stderr', readable: Readable, started: Promise<void>): Promise<void> {
    // Waiting for each write is what slows a chatty process down to the channel's pace.
    for await (const chunk of readable) {
      await started;
      await this.#sendBytes(chunk, (body) => this.#send({ type: 'output', id, stream }, body));
    }
  }

  async #read({ id, path }: Extract<AgentRequest, { type: 'read' }>): Promise<void> {
    await this.#sendBytes(await readFile(path), (body) => this.#send({ type: 'data', id, last: false }, body));
    await this.#send({ type: 'data', id, last: true });
  }

  async #sendBytes(bytes: Buffer, send: (body: Buffer) => Promise<void>): Promise<void> {
    for (const body of bodiesOf(bytes)) {
      await send(body);
    }
  }

  #kill(child: ChildProcess, signal: NodeJS.Signals): void {
    try {
      // A negative pid: the whole group, of which the child is the leader (`detached`).
      process.kill(-(child.pid ?? 0), signal);
    } catch {
      // It has ended by itself.
    }
  }

  #send(event: AgentEvent, body?: Buffer): Promise<void> {
    const frame = encodeFrame(event, body);
    const done = this.#lastWrite.then(async () => {
      for (let at = 0; at < frame.length; ) {
        const { bytesWritten } = await this.#channel.write(frame, at, frame.length - at, null);
        at += bytesWritten;
      }
    });
    this.#lastWrite = done.catch(() => {});
    return done;
  }
}

async function powerOff(): Promise<void> {
  // 'b' resets at once, which both machines are started to take as an end; it needs no ACPI and no program.
  const trigger = await open('/proc/sysrq-trigger', 'w');
  await trigger.write('b');
}

const [, , channelPath = ''] = process.argv;
// devtmpfs has the devices only; shells and programs expect these as well.
for (const [name, target] of [
  ['fd', ''],
  ['stdin', '/0'],
  ['stdout', '/1'],
  ['stderr', '/2'],
] as const) {
  await symlink(`/proc/self/fd${target}`, `/dev/${name}`);
}
const agent = new Agent(await open(channelPath, constants.O_RDWR | constants.O_NOCTTY));
try {
  await agent.serve();
} catch (error) {
  console.error('lab: agent:', error);
} finally {
  agent.killAll();
  await powerOff();
}
