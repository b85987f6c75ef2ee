/**
 * The context that is served to the fuzzer: devices for it to abuse, and two that it cannot name. Their index and id hold
 * a byte that it never sends, whatever a frame or line is mutated to or taken for: a client may close the buffer of
 * another by naming it, so a client that is to be left alone must not be named.
 */
export const UNSPEAKABLE = 'K'.charCodeAt(0);

/** Positions in the document. */
export const INPUTS = [0, 1, 2] as const;
/** These never have a sample. */
export const SLOW_FOR_TEXT = 3;
export const SLOW = 8;
export const OUTPUTS = [4, 5, 6, 7] as const;
/** Has events, and an attribute that fails. */
export const MONITOR = 9;
export const TRIGGER = 10;
/** The binary client's and the text client's. */
export const STEADY_BINARY = UNSPEAKABLE;
export const STEADY_TEXT = { id: 'y-K', position: UNSPEAKABLE + 1 } as const;

/** Of the steady clients' devices, which have one channel of 4 bytes. */
export const STEADY_HERTZ = 50_000;

const CONVERTER_HERTZ = 20_000;

export const FUZZED_NAMES = [
  ...[...INPUTS, SLOW_FOR_TEXT, ...OUTPUTS, SLOW, MONITOR].map((n) => `iio:device${n}`),
  'trigger0',
  'timer',
  'rx0',
  'monitor',
  'slow3',
];

function channel(index: number, direction: 'input' | 'output', format: string): string {
  const prefix = direction === 'input' ? 'in' : 'out';
  return `<channel id="voltage${index}" type="${direction}">
    <scan-element index="${index}" format="${format}"/>
    <attribute name="raw" filename="${prefix}_voltage${index}_raw" value="7"/>
    <attribute name="scale" filename="${prefix}_voltage_scale" value="0.5"/>
  </channel>`;
}

function converter(position: number, name: string, direction: 'input' | 'output', hertz: number): string {
  return `<device id="iio:device${position}" name="${name}">
    ${[0, 1].map((index) => channel(index, direction, 'le:s16/16&gt;&gt;0')).join('\n')}
    <buffer index="0" direction="${direction === 'input' ? 'in' : 'out'}">
      <attribute name="data_available" value="0"/>
      <channel id="voltage0" type="${direction}"/><channel id="voltage1" type="${direction}"/>
    </buffer>
    <attribute name="sampling_frequency" value="${hertz}"/>
    <debug-attribute name="direct_reg_access" value="0x0"/>
  </device>`;
}

function steady(id: string): string {
  return `<device id="${id}">
    ${channel(0, 'input', 'le:S32/32&gt;&gt;0')}
    <buffer index="0" direction="in"><channel id="voltage0" type="input"/></buffer>
    <attribute name="sampling_frequency" value="${STEADY_HERTZ}"/>
  </device>`;
}

export const CONTEXT = `<?xml version="1.0" encoding="utf-8"?>
<context name="local" version-major="1" version-minor="0" version-git="v1.0" description="for the fuzzer">
  ${INPUTS.map((position) => converter(position, `rx${position}`, 'input', CONVERTER_HERTZ)).join('\n')}
  ${OUTPUTS.map((position) => converter(position, `tx${position}`, 'output', CONVERTER_HERTZ)).join('\n')}
  ${[SLOW_FOR_TEXT, SLOW].map((position) => converter(position, `slow${position}`, 'input', 0.001)).join('\n')}
  <device id="iio:device${MONITOR}" name="monitor">
    <channel id="temp0" type="input">
      <attribute name="raw" filename="in_temp0_raw" value="ERROR:-22"/>
      <event-attribute name="thresh_rising_en" filename="in_temp0_thresh_rising_en" value="0"/>
    </channel>
    <event-attribute name="period" value="1"/>
  </device>
  <device id="trigger0" name="timer"/>
  ${Array.from({ length: STEADY_BINARY - TRIGGER - 1 }, (_, n) => `<device id="u${10 + n}"/>`).join('')}
  ${steady('x-K')}
  ${steady(STEADY_TEXT.id)}
</context>`;
