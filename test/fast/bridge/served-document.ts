import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import { parseConfig } from '../../../src/bridge/config.js';
import type { Logger } from '../../../src/bridge/logger.js';
import { Service } from '../../../src/bridge/service.js';

export interface LogLine {
  readonly level: 'info' | 'warn' | 'error';
  readonly fields: object;
  readonly message: string;
}

/** A bridge over TCP that emulates a document until the test is over. */
export async function serveDocument(xml: string, config: Readonly<Record<string, unknown>> = {}) {
  const directory = mkdtempSync(join(tmpdir(), 'iio-bridge-'));
  onTestFinished(() => rmSync(directory, { recursive: true }));
  const context = join(directory, 'context.xml');
  writeFileSync(context, xml);
  const lines: LogLine[] = [];
  const note = (level: LogLine['level']) => (fields: object, message: string) =>
    void lines.push({ level, fields, message });
  const log: Logger = {
    debug: () => undefined,
    info: note('info'),
    warn: note('warn'),
    error: note('error'),
    child: () => log,
  };
  const served = { usb: { enabled: false }, tcp: { listen: ['127.0.0.1:0'] }, emulate: { context }, ...config };
  const service = await Service.start(parseConfig(served, 'the test'), { log });
  onTestFinished(() => service.stop());
  return {
    port: service.endpoints[0]?.port ?? 0,
    lines,
    /** Messages of warnings and errors. */
    get complaints(): string[] {
      return lines.filter(({ level }) => level !== 'info').map(({ message }) => message);
    },
  };
}

const SAMPLE = '<scan-element index="0" format="le:S16/16&gt;&gt;0"/>';

/** What every probe is about: an input, an output, a lone attribute, events, and a trigger; in the order of their ids. */
export const DOCUMENT = `<?xml version="1.0" encoding="utf-8"?>
<context name="local" version-major="1" version-minor="0" version-git="v1.0" description="probes">
  <device id="iio:device0" name="adc">
    <channel id="voltage0" type="input">${SAMPLE}
      <attribute name="raw" filename="in_voltage0_raw" value="-17"/>
    </channel>
    <buffer index="0" direction="in">
      <attribute name="data_available" value="0"/><channel id="voltage0" type="input"/>
    </buffer>
    <attribute name="sampling_frequency" value="1000000"/>
  </device>
  <device id="iio:device2" name="clock"><attribute name="rate" value="961538"/></device>
  <device id="iio:device4" name="dac">
    <channel id="voltage0" type="output">${SAMPLE}</channel>
    <buffer index="0" direction="out"><channel id="voltage0" type="output"/></buffer>
    <debug-attribute name="direct_reg_access" value="0x0"/>
  </device>
  <device id="iio:device5" name="monitor">
    <channel id="temp0" type="input">
      <attribute name="raw" filename="in_temp0_raw" value="1"/>
      <event-attribute name="thresh_rising_en" filename="in_temp0_thresh_rising_en" value="0"/>
    </channel>
  </device>
  <device id="iio:device6" name="idle">
    <channel id="voltage0" type="input">${SAMPLE}</channel>
    <buffer index="0" direction="in"><channel id="voltage0" type="input"/></buffer>
    <attribute name="sampling_frequency" value="0.001"/>
  </device>
  <device id="trigger0" name="timer"/>
</context>`;

/** Positions in {@link DOCUMENT}. */
export const DEVICE = { adc: 0, clock: 1, dac: 2, monitor: 3, idle: 4, trigger: 5 } as const;
