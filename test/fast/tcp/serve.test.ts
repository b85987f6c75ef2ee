import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createConnection } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { describe, expect, it, onTestFinished } from 'vitest';

const MAIN = fileURLToPath(new URL('../../../dist/bundle/iio-bridge.js', import.meta.url));
const CONTEXT = fileURLToPath(new URL('../../fixtures/emulated/converters.xml', import.meta.url));

interface Endpoint {
  readonly host: string;
  readonly port: number;
}

interface LogRecord {
  readonly msg: string;
  readonly tcp?: readonly Endpoint[];
  readonly metrics?: Endpoint;
  readonly emulate?: string;
}

interface Ended {
  readonly code: number | null;
  readonly stderr: string;
}

function serve(...args: readonly string[]) {
  const child = spawn(process.execPath, [MAIN, 'serve', ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  onTestFinished(() => void child.kill('SIGKILL'));
  let stderr = '';
  child.stderr.on('data', (text) => {
    stderr += text;
  });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  return {
    child,
    /** The next record of the log with this message. */
    async record(message: string): Promise<LogRecord> {
      for (;;) {
        const { value, done } = await lines.next();
        if (done) {
          throw new Error(`ended without "${message}": ${stderr}`);
        }
        const record: LogRecord = JSON.parse(value);
        if (record.msg === message) {
          return record;
        }
      }
    },
    async ended(): Promise<Ended> {
      const [code] = await once(child, 'close');
      return { code, stderr };
    },
  };
}

function file(name: string, content: string): string {
  const directory = mkdtempSync(join(tmpdir(), 'iio-bridge-'));
  onTestFinished(() => rmSync(directory, { recursive: true }));
  writeFileSync(join(directory, name), content);
  return join(directory, name);
}

describe('iio-bridge serve --no-usb', () => {
  it('serves an emulated context on every endpoint until SIGTERM', { timeout: 20_000 }, async () => {
    const bridge = serve('--no-usb', '--tcp', '127.0.0.1:0', '--tcp', '0', '--emulate', CONTEXT);
    const ready = await bridge.record('ready');
    const endpoints = ready.tcp ?? [];
    expect(endpoints.map(({ host }) => host)).toEqual(['127.0.0.1', '127.0.0.1']);
    for (const { host, port } of endpoints) {
      const socket = createConnection({ host, port });
      onTestFinished(() => void socket.destroy());
      socket.write('BINARY\r\n');
      const [answer] = await once(socket, 'data');
      expect(String(answer).trim()).toBe('0');
    }
    bridge.child.kill('SIGTERM');
    expect(await bridge.ended()).toEqual({ code: 0, stderr: '' });
  });

  it('takes a configuration file, and the command line before it', { timeout: 20_000 }, async () => {
    const config = file(
      'bridge.json',
      JSON.stringify({
        usb: { enabled: false },
        tcp: { listen: ['127.0.0.1:1'] },
        emulate: { context: '/nowhere.xml', signal: 'sine' },
      }),
    );
    const bridge = serve('--config-file', config, '--tcp', '0', '--emulate', CONTEXT);
    const ready = await bridge.record('ready');
    expect(ready.tcp).toHaveLength(1);
    expect(ready.emulate).toBe(CONTEXT);
    bridge.child.kill('SIGINT');
    expect((await bridge.ended()).code).toBe(0);
  });

  it('serves the figures of its buffers for Prometheus', { timeout: 20_000 }, async () => {
    const bridge = serve('--no-usb', '--tcp', '0', '--metrics', '0', '--emulate', CONTEXT);
    const { metrics } = await bridge.record('ready');
    const url = `http://${metrics?.host}:${metrics?.port}`;
    const text = await (await fetch(`${url}/metrics`)).text();
    expect(text).toMatch(/^iio_bridge_info\{version="[\d.]+"\} 1$/m);
    const adc = 'device="emu-adc",buffer="0",direction="in"';
    expect(text).toContain(`iio_bridge_buffer_path{${adc},mode="idle",fallbacks=""} 1`);
    expect(text).toContain(`iio_bridge_buffer_lost_samples{${adc}} 0`);
    expect(text).not.toContain(`iio_bridge_buffer_underruns{${adc}}`);
    expect((await fetch(`${url}/`)).status).toBe(404);
    bridge.child.kill('SIGTERM');
    expect((await bridge.ended()).code).toBe(0);
  });

  it.each([
    ['no endpoint', ['--no-usb', '--emulate', CONTEXT], 'add --tcp'],
    ['an endpoint that is none', ['--no-usb', '--tcp', 'here', '--emulate', CONTEXT], '"here" is not [HOST:]PORT'],
    [
      'a port for figures that is taken',
      ['--no-usb', '--tcp', '0', '--metrics', '1.2.3.4:5', '--emulate', CONTEXT],
      'EADDRNOTAVAIL',
    ],
    ['no document', ['--no-usb', '--tcp', '0', '--emulate', '/nowhere.xml'], '/nowhere.xml: ENOENT'],
    ['a document that is none', ['--no-usb', '--tcp', '0', '--emulate', MAIN], 'iio-bridge: '],
    ['no configuration', ['--config-file', '/nowhere.json'], '/nowhere.json: ENOENT'],
  ])('%s: says so and ends with 1', { timeout: 20_000 }, async (_, args, complaint) => {
    const { code, stderr } = await serve(...args).ended();
    expect(stderr).toContain(complaint);
    expect(stderr).not.toContain('    at ');
    expect(code).toBe(1);
  });
});
