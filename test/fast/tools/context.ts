import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** As long as a value can be for every libiio. */
export const LONG_VALUE = Array.from({ length: 4095 }, (_, i) => 'abcdefghijklmnopqrstuvwxyz'[i % 26]).join('');

export const WIDE_CHANNELS = 40;
/** Sample sets in the sample file of `emu-file`, of four bytes each. */
export const FILE_SETS = 1000;
export const FILE_SAMPLES = Buffer.from(
  Uint16Array.from({ length: 2 * FILE_SETS }, (_, i) => (i * 40_503 + 77) & 0xffff).buffer,
);

type Direction = 'input' | 'output';

function attribute(name: string, value: string): string {
  return `<attribute name="${name}" value="${value}"/>`;
}

function converter(n: number, name: string, direction: Direction, formats: readonly string[], rest = ''): string {
  const prefix = direction === 'input' ? 'in' : 'out';
  const ids = formats.map((format, index) => (format.includes('/64') ? 'timestamp' : `voltage${index}`));
  const channels = ids.map((id, index) => {
    const format = (formats[index] ?? '').replaceAll('>', '&gt;');
    const values =
      id === 'timestamp'
        ? ''
        : `<attribute name="raw" filename="${prefix}_${id}_raw" value="${index}"/>
           <attribute name="scale" filename="${prefix}_${id}_scale" value="0.5"/>`;
    return `<channel id="${id}" type="${direction}"><scan-element index="${index}" format="${format}"/>${values}</channel>`;
  });
  return `<device id="iio:device${n}" name="${name}">
    ${channels.join('\n')}
    <buffer index="0" direction="${prefix}">
      ${attribute('data_available', '0')}${attribute('watermark', '1')}
      ${ids.map((id) => `<channel id="${id}" type="${direction}"/>`).join('')}
    </buffer>
    ${rest}
  </device>`;
}

const S16 = 'le:S16/16>>0';
const FAST = attribute('free_running', '1') + attribute('sampling_frequency', '1000000');

/** What libiio's programs are run against: converters that are as fast as their readers, and attributes of every kind. */
const CONTEXT = `<?xml version="1.0" encoding="utf-8"?>
<context name="local" version-major="1" version-minor="0" version-git="v1.0" description="Linux tools 6.12.0 emulated">
  <context-attribute name="hw_model" value="Emulated &lt;converters&gt; &amp; more"/>
  <context-attribute name="local,kernel" value="6.12.0"/>
  ${converter(0, 'emu-adc', 'input', [S16, S16, S16, S16], `${FAST}<debug-attribute name="direct_reg_access" value="0x0"/>`)}
  ${converter(1, 'emu-mixed', 'input', [S16, 'le:s24/32>>8', 'le:S32/32>>0', 'be:u12/16>>4', 'le:S64/64>>0'], FAST)}
  ${converter(2, 'emu-dac', 'output', [S16, S16, S16, S16], FAST)}
  ${converter(
    3,
    'emu-wide',
    'input',
    Array.from({ length: WIDE_CHANNELS }, () => 'le:u16/16>>0'),
    FAST,
  )}
  ${converter(4, 'emu-idle', 'input', [S16], attribute('sampling_frequency', '0.001'))}
  ${converter(5, 'emu-file', 'input', ['le:U16/16>>0', 'le:U16/16>>0'], FAST + attribute('test_signal', 'file'))}
  <device id="iio:device6" name="emu-values" label="all kinds">
    <channel id="altvoltage0" type="output" name="RX_LO">
      <attribute name="frequency" filename="out_altvoltage0_RX_LO_frequency" value="2400000000"/>
    </channel>
    <channel id="temp0" type="input" label="die">
      <attribute name="input" filename="in_temp0_input" value="29820"/>
      <attribute name="raw" filename="in_temp0_raw" value="ERROR:-22"/>
    </channel>
    ${attribute('empty', '')}
    ${attribute('integer', '-42')}
    ${attribute('long', LONG_VALUE)}
    ${attribute('text', 'with blanks,  and &lt;signs&gt;')}
    ${attribute('unreadable', 'ERROR:-22')}
    ${attribute('write_only', 'ERROR:-13')}
    <debug-attribute name="test_mode" value="off"/>
  </device>
  <device id="trigger0" name="emu-timer"/>
</context>`;

/** A folder with the document and the sample file. Returns the document's path. */
export function writeContext(): string {
  const directory = mkdtempSync(join(tmpdir(), 'iio-bridge-'));
  writeFileSync(join(directory, 'emu-file_buf0.bin'), FILE_SAMPLES);
  writeFileSync(join(directory, 'context.xml'), CONTEXT);
  return join(directory, 'context.xml');
}
