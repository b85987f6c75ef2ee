import { once } from 'node:events';
import { createConnection, createServer, type Socket } from 'node:net';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { type Config, parseConfig } from '../../../src/bridge/config.js';
import type { Logger } from '../../../src/bridge/logger.js';
import { Service } from '../../../src/bridge/service.js';
import { type Announcer, isLoopback } from '../../../src/bridge/tcp-server.js';
import { openDescriptors } from '../dataplane/sockets.js';

const CONTEXT = join(import.meta.dirname, '../../fixtures/emulated/converters.xml');

interface Started {
  readonly service: Service;
  readonly port: number;
  readonly lines: string[];
}

async function start(
  listen: readonly string[] = ['127.0.0.1:0'],
  { limits = {}, announcer }: { limits?: Partial<Config['limits']>; announcer?: Announcer } = {},
): Promise<Started> {
  const lines: string[] = [];
  const note = (_: object, message: string) => void lines.push(message);
  const log: Logger = { debug: note, info: note, warn: note, error: note, child: () => log };
  const config = parseConfig(
    { usb: { enabled: false }, tcp: { listen }, emulate: { context: CONTEXT }, limits },
    'the test',
  );
  const service = await Service.start(config, { log, ...(announcer === undefined ? {} : { announcer }) });
  onTestFinished(() => service.stop());
  return { service, port: service.endpoints[0]?.port ?? 0, lines };
}

async function connect(port: number, host = '127.0.0.1'): Promise<Socket> {
  const socket = createConnection({ host, port });
  onTestFinished(() => void socket.destroy());
  socket.on('error', () => undefined);
  await once(socket, 'connect');
  return socket;
}

/** Switches to the binary protocol: the shortest conversation there is. */
async function greet(socket: Socket): Promise<string> {
  socket.write('BINARY\r\n');
  const [answer] = await once(socket, 'data');
  return String(answer).trim();
}

describe('the TCP server', () => {
  it('serves sessions on a port of its choice', async () => {
    const { port, service } = await start();
    expect(service.endpoints).toEqual([{ host: '127.0.0.1', port }]);
    const clients = await Promise.all([connect(port), connect(port), connect(port)]);
    expect(await Promise.all(clients.map(greet))).toEqual(['0', '0', '0']);
  });

  it('listens on both families, on several endpoints', async (context) => {
    if (!(await hasIpv6())) {
      context.skip('this machine has no IPv6 loopback');
    }
    const { service } = await start(['127.0.0.1:0', '[::1]:0', 'localhost:0']);
    expect(service.endpoints).toHaveLength(3);
    for (const { host, port } of service.endpoints) {
      expect(await greet(await connect(port, host))).toBe('0');
    }
  });

  it('says which endpoint it cannot have, and leaves nothing behind', async () => {
    const { port } = await start();
    await expect(start(['127.0.0.1:0', `127.0.0.1:${port}`])).rejects.toThrow(
      expect.objectContaining({ code: 'EADDRINUSE', message: expect.stringContaining(`127.0.0.1 port ${port}`) }),
    );
    await expect(start(['192.0.2.1:0'])).rejects.toThrow(expect.objectContaining({ code: 'EADDRNOTAVAIL' }));
  });

  it('closes connections above the limit with a line in the log, and takes new ones when there is room', async () => {
    const { port, lines } = await start(['127.0.0.1:0'], { limits: { links: 2 } });
    const first = await connect(port);
    const second = await connect(port);
    expect([await greet(first), await greet(second)]).toEqual(['0', '0']);
    const third = await connect(port);
    await once(third, 'close');
    expect(lines.filter((line) => line.startsWith('connection refused'))).toHaveLength(1);
    expect(await greet(second).catch(() => 'gone')).not.toBe('gone');
    first.destroy();
    await vi.waitFor(async () => {
      const next = await connect(port);
      expect(await Promise.race([greet(next), once(next, 'close').then(() => 'closed')])).toBe('0');
    });
  });

  it('stops at once while clients are idle, greeting, or in the middle of a frame', async () => {
    const { port, service } = await start();
    const idle = await connect(port);
    const greeted = await connect(port);
    await greet(greeted);
    greeted.write(Buffer.of(0, 0, 1));
    const halfLine = await connect(port);
    halfLine.write('PRI');
    const ends = [idle, greeted, halfLine].map((socket) => once(socket, 'close'));
    const before = performance.now();
    await service.stop();
    await Promise.all(ends);
    expect(performance.now() - before).toBeLessThan(1000);
    await expect(connect(port)).rejects.toThrow('ECONNREFUSED');
  });

  it('500 clients come and go, politely and not, and no descriptor stays', async () => {
    const { port } = await start();
    await greet(await connect(port));
    const before = openDescriptors();
    for (let i = 0; i < 500; i += 10) {
      const sockets = await Promise.all(Array.from({ length: 10 }, () => connect(port)));
      await Promise.all(
        sockets.map(async (socket, n) => {
          if (n % 3 === 0) {
            await greet(socket);
          }
          const closed = once(socket, 'close');
          if (n % 2 === 0) {
            socket.resetAndDestroy();
          } else {
            socket.destroy();
          }
          await closed;
        }),
      );
    }
    await vi.waitFor(() => expect(openDescriptors()).toBe(before), 5000);
  });

  it('sets what iiod sets on a connection: no delay, keep-alive after 10 s', async () => {
    const { port } = await start();
    const client = await connect(port);
    await greet(client);
    const { readFile } = await import('node:fs/promises');
    const hex = port.toString(16).toUpperCase().padStart(4, '0');
    const connections = (await readFile('/proc/net/tcp', 'utf8')).split('\n').map((line) => line.trim().split(/\s+/));
    const ours = connections.find((fields) => fields[1]?.endsWith(`:${hex}`) && fields[3] === '01');
    // Column tr:tm->when of the server's end: timer 2 is keep-alive, its time in hundredths of a second.
    const [timer, when] = (ours?.[5] ?? '').split(':');
    expect(timer).toBe('02');
    expect(Number.parseInt(when ?? '', 16)).toBeLessThanOrEqual(1000);
  });

  it('announces itself only where others can reach it', async () => {
    const withdraw = vi.fn(async () => undefined);
    const announce = vi.fn((_: Parameters<Announcer['announce']>[0]) => ({ withdraw }));
    const { service } = await start(['127.0.0.1:0'], { announcer: { announce } });
    expect(announce).not.toHaveBeenCalled();
    await service.stop();
    const wide = await start(['127.0.0.1:0', '0.0.0.0:0'], { announcer: { announce } });
    expect(announce.mock.calls).toEqual([
      [{ name: `iiod on ${hostname()}`, type: 'iio', port: wide.service.endpoints[1]?.port, address: '0.0.0.0' }],
    ]);
    expect(withdraw).not.toHaveBeenCalled();
    await wide.service.stop();
    expect(withdraw).toHaveBeenCalledOnce();
  });

  it.each([
    ['127.0.0.1', true],
    ['127.8.9.10', true],
    ['::1', true],
    ['::ffff:127.0.0.1', true],
    ['0.0.0.0', false],
    ['::', false],
    ['192.168.2.1', false],
    ['fe80::1', false],
  ])('%s is loopback: %s', (address, expected) => {
    expect(isLoopback(address)).toBe(expected);
  });

  it('refuses a document above the limit', async () => {
    await expect(start(['127.0.0.1:0'], { limits: { xmlBytes: 1024 } })).rejects.toThrow(
      expect.objectContaining({ code: 'EFBIG', message: expect.stringContaining('limits.xmlBytes') }),
    );
  });
});

async function hasIpv6(): Promise<boolean> {
  const server = createServer();
  try {
    server.listen(0, '::1');
    await once(server, 'listening');
    return true;
  } catch {
    return false;
  } finally {
    server.close();
  }
}
