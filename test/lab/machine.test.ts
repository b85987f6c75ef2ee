import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, onTestFinished, test } from 'vitest';
import { findReports } from '../../lab/kernel-log.js';
import { type Machine, type MachineOptions, startMachine } from '../../lab/machine.js';
import { loadModules, unloadModules } from '../../lab/modules.js';
import { machineKind, useMachine } from './support.js';

/** Pids of the host's processes whose command line contains `text`. */
function hostProcesses(text: string): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, 'latin1').replaceAll('\0', ' ').includes(text);
      } catch {
        return false;
      }
    })
    .map(Number);
}

/** A machine of the test's own, which it may kill, and a text that only its host processes carry. */
async function ownMachine(options: MachineOptions = {}): Promise<{ readonly machine: Machine; readonly tag: string }> {
  const tag = `lab.tag=${process.pid}-${performance.now()}`;
  const machine = await startMachine(machineKind(), { ...options, kernelArgs: [tag] });
  onTestFinished(() => machine.shutdown());
  expect(hostProcesses(tag).length).toBeGreaterThan(0);
  return { machine, tag };
}

describe('a shared machine', () => {
  const lab = useMachine();

  test('runs a Linux of its own', async () => {
    const { stdout } = await lab.machine.run(['uname', '-sn']);
    expect(stdout).toBe(`Linux lab-${machineKind()}\n`);
    expect(await lab.machine.output('cat /proc/sys/kernel/osrelease')).not.toBe(
      readFileSync('/proc/sys/kernel/osrelease', 'utf8'),
    );
  });

  test('passes on exit codes, signals, both outputs, input, environment and folder', async () => {
    const { machine } = lab;
    expect(await machine.run('echo out; echo err >&2; exit 3')).toEqual({
      code: 3,
      signal: null,
      stdout: 'out\n',
      stderr: 'err\n',
    });
    expect(await machine.run('kill -TERM $$')).toMatchObject({ code: null, signal: 'SIGTERM' });
    expect(
      await machine.output('cat; echo "$GREETING"; pwd', { input: 'a\n', env: { GREETING: 'hi' }, cwd: '/sys' }),
    ).toBe('a\nhi\n/sys\n');
    await expect(machine.output('echo why >&2; exit 1')).rejects.toMatchObject({
      code: 'ECHILD',
      message: expect.stringContaining('why'),
    });
    await expect(machine.run(['/no/such/program'])).rejects.toMatchObject({ code: 'ENOENT' });
  });

  test('keeps what it changes from the host', async () => {
    const path = `/etc/lab-test-${process.pid}`;
    await lab.machine.writeFile(path, 'in the guest only');
    expect((await lab.machine.readFile(path)).toString()).toBe('in the guest only');
    expect(existsSync(path)).toBe(false);
    const { code } = await lab.machine.run(['rm', '/etc/passwd']);
    expect(code).toBe(0);
    expect(existsSync('/etc/passwd')).toBe(true);
    await expect(lab.machine.readFile('/etc/passwd')).rejects.toMatchObject({ code: 'ENOENT' });
  });

  test('sees the host’s files at their paths, also those in /tmp', async () => {
    expect((await lab.machine.readFile(import.meta.filename)).equals(readFileSync(import.meta.filename))).toBe(true);
    expect(await lab.machine.output([process.execPath, '-p', 'process.version'])).toBe(`${process.version}\n`);
  });

  test('has lo, devpts, configfs and debugfs', async () => {
    const { machine } = lab;
    await machine.output(
      'test -d /sys/kernel/config/usb_gadget && test -d /sys/kernel/debug/usb && test -c /dev/ptmx && test -d /dev/shm',
    );
    const server = `require('net').createServer((s) => s.end('over lo')).listen(7, '127.0.0.1', function () {
      require('net').connect(7, '127.0.0.1').on('close', () => this.close()).pipe(process.stdout);
    })`;
    expect(await machine.output([process.execPath, '-e', server])).toBe('over lo');
  });

  test('carries 10 MB of output unharmed', async () => {
    const script = `
      const hash = require('crypto').createHash('sha256');
      let x = 1;
      for (let i = 0; i < 160; i += 1) {
        const text = Array.from({ length: 8192 }, () => ((x = (x * 48271) % 2147483647) >>> 3).toString(16).padStart(8, '0')).join('');
        hash.update(text);
        process.stdout.write(text);
      }
      process.stderr.write(hash.digest('hex'));`;
    const { stdout, stderr } = await lab.machine.run([process.execPath, '-e', script]);
    expect(stdout.length).toBe(160 * 8192 * 8);
    expect(createHash('sha256').update(stdout).digest('hex')).toBe(stderr);
  });

  test('carries 300 kB of input and of a file unharmed', async () => {
    const data = Buffer.from(Array.from({ length: 300_000 }, (_, index) => (index * 2_654_435_761) >>> 24));
    const hash = createHash('sha256').update(data).digest('hex');
    expect(await lab.machine.output('sha256sum', { input: data })).toContain(hash);
    await lab.machine.writeFile('/tmp/lab-data', data);
    expect(await lab.machine.output('sha256sum /tmp/lab-data')).toContain(hash);
    expect((await lab.machine.readFile('/tmp/lab-data')).equals(data)).toBe(true);
  });

  test('follows a process by its lines and ends it with its children', async () => {
    await using child = await lab.machine.spawn('echo one; echo two >&2; sleep 1000 & wait');
    expect((await child.waitForLine(/^t(w.)$/))[1]).toBe('wo');
    await expect(child.waitForLine(/three/, { timeoutMs: 50 })).rejects.toMatchObject({
      code: 'ETIMEDOUT',
      message: expect.stringContaining('one'),
    });
    await child.kill('SIGTERM');
    expect(await child.exited).toEqual({ code: null, signal: 'SIGTERM' });
    await expect(child.waitForLine(/three/)).rejects.toMatchObject({ code: 'ECHILD' });
    const lines: string[] = [];
    for await (const line of child.stdout) {
      lines.push(line);
    }
    expect(lines).toEqual(['one']);
    expect(await lab.machine.run('ps -e -o args= | grep "^sleep 1000"')).toMatchObject({ code: 1 });
  });

  test('ends a command that takes too long or is aborted', async () => {
    const { machine } = lab;
    await expect(machine.run('echo so far; sleep 1001', { timeoutMs: 1000 })).rejects.toMatchObject({
      code: 'ETIMEDOUT',
      message: expect.stringContaining('so far'),
    });
    const reason = new Error('enough');
    const controller = new AbortController();
    const aborted = machine.run('sleep 1001', { signal: controller.signal });
    controller.abort(reason);
    await expect(aborted).rejects.toBe(reason);
    await expect.poll(async () => (await machine.run('ps -e -o args= | grep "^sleep 1001"')).code).toBe(1);
  });

  test('gives the part of the kernel log between two moments, without a line lost while the host is busy', async () => {
    const { machine } = lab;
    const mark = await machine.kernelLogMark();
    await machine.output('seq -f "lab: test line %g" 3000 >/tmp/lines');
    const logging = machine.output('while read -r l; do echo "$l" >/dev/kmsg; done </tmp/lines');
    // Long enough for a guest that logs without a reader to fill any pipe.
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1500);
    await logging;
    const lines = (await machine.kernelLogSince(mark)).split('\n').filter((line) => line.includes('lab: test line'));
    expect(lines.length).toBe(3000);
    expect(await machine.kernelLogSince(await machine.kernelLogMark())).toBe('');
    expect(await machine.kernelLog()).toContain('Linux version');
  });

  test('fails a test whose kernel reports trouble, unless it expects that', async () => {
    lab.expectReport(/BUG: a made-up one/);
    await lab.machine.writeFile('/dev/kmsg', 'BUG: a made-up one\n');
  });
});

test('the lab’s modules bring simulated converters and a USB controller, and go again', async () => {
  const { machine } = await ownMachine();
  await loadModules(machine);
  expect(await machine.output('cat /sys/bus/iio/devices/iio:device*/name')).toMatch(/sim/);
  expect(await machine.output('cat /sys/class/udc/*/maximum_speed')).toBe('super-speed\n');
  await expect(loadModules(machine, [{ name: 'iio_sim' }])).rejects.toMatchObject({
    code: 'ECHILD',
    message: expect.stringContaining('File exists'),
  });
  await unloadModules(machine, ['iio_sim', 'dummy_hcd_sg']);
  expect(await machine.output('ls /sys/class/udc /sys/bus/iio/devices')).not.toMatch(/dummy_udc|iio:device/);
  expect(findReports(await machine.kernelLog())).toEqual([]);
});

test('the command line passes on output, input and exit code', () => {
  const cli = fileURLToPath(new URL('../../dist/lab/cli.js', import.meta.url));
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [cli, '--machine', machineKind(), '--bare', '--', 'hostname; cat; echo err >&2; exit 4'],
    { input: 'input\n', encoding: 'utf8' },
  );
  expect(stdout).toBe(`lab-${machineKind()}\ninput\n`);
  expect(stderr).toMatch(/^err$/m);
  expect(status).toBe(4);
});

test('two machines run side by side', async () => {
  const [one, two] = await Promise.all([ownMachine(), ownMachine()]);
  await Promise.all([one.machine.writeFile('/tmp/who', 'one'), two.machine.writeFile('/tmp/who', 'two')]);
  expect((await one.machine.readFile('/tmp/who')).toString()).toBe('one');
  expect((await two.machine.readFile('/tmp/who')).toString()).toBe('two');
});

test('a shutdown leaves no process, fails what is pending and what comes later', async () => {
  const { machine, tag } = await ownMachine();
  const pending = expect(machine.run('sleep 1000')).rejects.toMatchObject({ code: 'GUEST_CLOSED' });
  await machine.shutdown();
  await pending;
  expect(hostProcesses(tag)).toEqual([]);
  await expect(machine.run('true')).rejects.toMatchObject({ code: 'GUEST_CLOSED' });
  await machine.shutdown();
});

test('a panic fails what is pending with the end of the kernel log', async () => {
  const { machine, tag } = await ownMachine();
  const before = await machine.kernelLogMark();
  const other = expect(machine.run('sleep 1000')).rejects.toMatchObject({ code: 'GUEST_PANIC' });
  await expect(machine.run('echo c >/proc/sysrq-trigger')).rejects.toMatchObject({
    code: 'GUEST_PANIC',
    message: expect.stringContaining('sysrq'),
  });
  await other;
  expect(await machine.kernelLogSince(before)).toContain('Kernel panic - not syncing');
  expect(machine.failure).toMatchObject({ code: 'GUEST_PANIC' });
  await machine.shutdown();
  expect(hostProcesses(tag)).toEqual([]);
});

test('a killed machine fails what is pending', async () => {
  const { machine, tag } = await ownMachine();
  const pending = expect(machine.run('sleep 1000')).rejects.toMatchObject({ code: 'GUEST_EXITED' });
  const [first = 0] = hostProcesses(tag);
  process.kill(first, 'SIGKILL');
  await pending;
  expect(await machine.kernelLog()).toContain('Linux version');
  await machine.shutdown();
  expect(hostProcesses(tag)).toEqual([]);
});

test('a guest that stops answering fails what is pending with the end of the kernel log', async () => {
  const { machine, tag } = await ownMachine({ silenceMs: 3000 });
  const pending = expect(machine.run('sleep 1000')).rejects.toMatchObject({
    code: 'GUEST_HUNG',
    message: expect.stringContaining('about to hang'),
  });
  await machine.writeFile('/dev/kmsg', 'lab: about to hang\n');
  for (const pid of hostProcesses(tag)) {
    process.kill(pid, 'SIGSTOP');
  }
  await pending;
  await machine.shutdown();
  expect(hostProcesses(tag)).toEqual([]);
});

test('a guest that does not boot says so with its console', async () => {
  const start = startMachine(machineKind(), { kernelArgs: ['LAB_NODE=/no/such/node'] });
  await expect(start).rejects.toMatchObject({
    code: 'GUEST_BOOT',
    message: expect.stringMatching(/lab: agent: ended with code 127/),
  });
});
