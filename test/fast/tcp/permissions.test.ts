import { ChannelMask } from '@iio-bridge/protocol';
import { describe, expect, it } from 'vitest';
import type { Permissions } from '../../../src/bridge/config.js';
import type { Logger } from '../../../src/bridge/logger.js';
import { PermissionedBackend } from '../../../src/bridge/permissions.js';
import { EmulatedBackend } from '../../../src/iio/emulated/emulated-backend.js';

const OPEN: Permissions = { readOnly: false, debugAttributes: true, registers: true };

const attribute = (name: string, value: string) => `<attribute name="${name}" value="${value}"/>`;

const DOCUMENT = `<context name="local" description="test">
  <device id="iio:device0" name="adc">
    <channel id="voltage0" type="input">
      <scan-element index="0" format="le:s16/16&gt;&gt;0"/>
      <attribute name="raw" filename="in_voltage0_raw" value="1"/>
      <attribute name="scale" filename="in_voltage_scale" value="1"/>
    </channel>
    ${attribute('sampling_frequency', '1000')}
    <debug-attribute name="direct_reg_access" value="0"/>
    <debug-attribute name="pseudorandom_err_check" value="0"/>
  </device>
  <device id="iio:device1" name="dac">
    <channel id="voltage0" type="output">
      <scan-element index="0" format="le:s16/16&gt;&gt;0"/>
      <attribute name="raw" filename="out_voltage0_raw" value="1"/>
    </channel>
    ${attribute('mode', '0')}
  </device>
  <device id="trigger0" name="timer"/>
</context>`;

const VALUE = new TextEncoder().encode('2');
const FREQUENCY = { kind: 'device', device: 0, attribute: 0 } as const;
const RAW = { kind: 'channel', device: 0, sub: 0, attribute: 0 } as const;
const SCALE = { kind: 'channel', device: 0, sub: 0, attribute: 1 } as const;
const MODE = { kind: 'device', device: 1, attribute: 0 } as const;
const REGISTER = { kind: 'debug', device: 0, attribute: 0 } as const;
const DEBUG = { kind: 'debug', device: 0, attribute: 1 } as const;

const denied = expect.objectContaining({ code: 'EACCES' });

async function open(permissions: Partial<Permissions>) {
  const lines: string[] = [];
  const note = (_: object, message: string) => void lines.push(message);
  const log: Logger = { debug: note, info: note, warn: note, error: note, child: () => log };
  const backend = await EmulatedBackend.open(DOCUMENT);
  return { backend: new PermissionedBackend(backend, { ...OPEN, ...permissions }, log), lines };
}

describe('permissions', () => {
  it('let everything through where nothing is forbidden', async () => {
    const { backend, lines } = await open({});
    for (const ref of [FREQUENCY, RAW, SCALE, MODE, DEBUG]) {
      expect(await backend.writeAttribute(ref, VALUE)).toBe(1);
      expect(new TextDecoder().decode(await backend.readAttribute(ref)).replace(/\s*\0$/, '')).toBe('2');
    }
    await backend.writeRegister(0, 4, 7);
    expect(await backend.readRegister(0, 4)).toBe(7);
    await backend.setTrigger(0, 2);
    expect(lines).toEqual([]);
  });

  it('read-only: nothing is written, played or triggered, everything is read', async () => {
    const { backend } = await open({ readOnly: true });
    for (const ref of [FREQUENCY, SCALE, DEBUG]) {
      await expect(backend.writeAttribute(ref, VALUE)).rejects.toThrow(denied);
      expect((await backend.readAttribute(ref)).byteLength).toBeGreaterThan(0);
    }
    await expect(backend.setTrigger(0, 2)).rejects.toThrow(denied);
    await expect(backend.writeRegister(0, 4, 7)).rejects.toThrow(denied);
    await expect(backend.openBuffer(1, 0, ChannelMask.of(1, [0]))).rejects.toThrow(denied);
    const buffer = await backend.openBuffer(0, 0, ChannelMask.of(1, [0]));
    await buffer.close();
  });

  it('read-only: a register is still chosen by writing its address, but not written', async () => {
    const { backend } = await open({ readOnly: true });
    await backend.writeAttribute(REGISTER, new TextEncoder().encode('0x4\n\0'));
    expect((await backend.readAttribute(REGISTER)).byteLength).toBeGreaterThan(0);
    await expect(backend.writeAttribute(REGISTER, new TextEncoder().encode('0x4 0x7'))).rejects.toThrow(denied);
    expect(await backend.readRegister(0, 4)).toBe(0);
  });

  it('an allow-list takes ids, names, files and *', async () => {
    const { backend } = await open({ writable: ['adc/in_voltage*_scale', 'iio:device1/*', 'adc/trigger/*'] });
    expect(await backend.writeAttribute(SCALE, VALUE)).toBe(1);
    await expect(backend.writeAttribute(RAW, VALUE)).rejects.toThrow(denied);
    await expect(backend.writeAttribute(FREQUENCY, VALUE)).rejects.toThrow(denied);
    expect(await backend.writeAttribute(MODE, VALUE)).toBe(1);
    await expect(backend.writeAttribute(DEBUG, VALUE)).rejects.toThrow(denied);
    await backend.setTrigger(0, 2);
  });

  it('an allow-list matches whole names only, dots and brackets as they are', async () => {
    const { backend } = await open({ writable: ['adc/sampling.frequency', 'ad/*', 'adc/sampling_freq'] });
    await expect(backend.writeAttribute(FREQUENCY, VALUE)).rejects.toThrow(denied);
  });

  it('debug attributes and registers are switched apart', async () => {
    const withoutDebug = (await open({ debugAttributes: false })).backend;
    await expect(withoutDebug.readAttribute(DEBUG)).rejects.toThrow(denied);
    await expect(withoutDebug.writeAttribute(DEBUG, VALUE)).rejects.toThrow(denied);
    expect((await withoutDebug.readAttribute(REGISTER)).byteLength).toBeGreaterThan(0);
    expect(await withoutDebug.readRegister(0, 4)).toBe(0);

    const withoutRegisters = (await open({ registers: false })).backend;
    expect((await withoutRegisters.readAttribute(DEBUG)).byteLength).toBeGreaterThan(0);
    await expect(withoutRegisters.readAttribute(REGISTER)).rejects.toThrow(denied);
    await expect(withoutRegisters.writeAttribute(REGISTER, VALUE)).rejects.toThrow(denied);
    await expect(withoutRegisters.readRegister(0, 4)).rejects.toThrow(denied);
    await expect(withoutRegisters.writeRegister(0, 4, 1)).rejects.toThrow(denied);
  });

  it('each refusal is logged once, however often it is tried', async () => {
    const { backend, lines } = await open({ readOnly: true });
    for (let i = 0; i < 5; i++) {
      await expect(backend.writeAttribute(FREQUENCY, VALUE)).rejects.toThrow(denied);
    }
    expect(lines).toEqual(['iio:device0/sampling_frequency is refused: clients of this link may only read']);
    await expect(backend.writeAttribute(SCALE, VALUE)).rejects.toThrow(denied);
    expect(lines).toHaveLength(2);
  });

  it('what does not exist is for the backend to say', async () => {
    const { backend } = await open({ readOnly: true, writable: [] });
    const missing = backend.writeAttribute({ kind: 'device', device: 0, attribute: 99 }, VALUE);
    await expect(missing).rejects.toThrow(expect.objectContaining({ code: 'EINVAL' }));
  });
});
