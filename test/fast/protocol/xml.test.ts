import { describe, expect, it } from 'vitest';
import {
  type ContextDescription,
  contextFromXml,
  contextToXml,
  generationFromXml,
  IioError,
  MAX_CONTEXT_XML_LENGTH,
  parseScanFormat,
} from '../../../protocol/src/index.js';

const AWKWARD = `a&b<c>d"e'f\tg\nh\ri é 漢 \u{1f600} ]]> &amp; &#65; `;

const CONTEXT: ContextDescription = {
  name: 'local',
  description: `Linux ${AWKWARD}`,
  version: { major: 1, minor: 0, git: 'v1.0' },
  attributes: new Map([
    ['hw_model', AWKWARD],
    ['local,kernel', '6.12.0'],
  ]),
  devices: [
    {
      id: 'iio:device0',
      name: 'adc & dac',
      label: AWKWARD,
      channels: [
        {
          id: 'voltage0',
          direction: 'in',
          name: 'x<y',
          label: '"quoted"',
          scanElement: { index: 0, format: parseScanFormat('le:s12/16>>4'), scale: 0.5 },
          attributes: [{ name: 'raw', filename: 'in_voltage0_raw' }, { name: 'same' }],
          eventAttributes: [{ name: 'thresh_rising_en', filename: 'in_voltage0_thresh_rising_en' }],
        },
        {
          id: 'voltage0',
          direction: 'out',
          scanElement: { index: 1, format: parseScanFormat('be:U24/32X2>>8') },
          attributes: [],
          eventAttributes: [],
        },
        { id: 'accel_x&y&z', direction: 'in', attributes: [{ name: 'raw', value: '007' }], eventAttributes: [] },
      ],
      buffers: [
        { index: 0, direction: 'in', attributes: [{ name: 'data_available' }], channels: [0] },
        { index: 1, direction: 'out', attributes: [], channels: [1] },
      ],
      attributes: [{ name: 'sampling_frequency', value: ' 1e3 ' }],
      debugAttributes: [{ name: 'direct_reg_access' }],
      eventAttributes: [{ name: 'in_voltage_thresh_en' }],
    },
    {
      id: 'iio:device1',
      channels: [
        {
          id: 'timestamp',
          direction: 'in',
          scanElement: { index: 0, format: parseScanFormat('le:S64/64>>0') },
          attributes: [],
          eventAttributes: [],
        },
      ],
      buffers: [{ index: 0, direction: 'in', attributes: [{ name: 'data_available' }], channels: [0] }],
      attributes: [],
      debugAttributes: [],
      eventAttributes: [],
    },
  ],
};

describe('writing', () => {
  const xml = contextToXml(CONTEXT);

  it('gives one line that starts with <?xml and declares event-attribute', () => {
    expect(xml.startsWith('<?xml version="1.0" encoding="utf-8"?><!DOCTYPE context [')).toBe(true);
    expect(xml).not.toMatch(/[\n\r\t]/);
    expect(generationFromXml(xml)).toBe('G');
  });

  it('declares every element and attribute that it uses', () => {
    const [, dtd = '', body = ''] = /^.*?<!DOCTYPE context \[(.*?)\]>(.*)$/s.exec(xml) ?? [];
    for (const [, element = '', attributes = ''] of body.matchAll(/<([a-z-]+)((?: [a-z-]+="[^"]*")*) \/?>/g)) {
      expect(dtd).toContain(`<!ELEMENT ${element} `);
      const declared = new RegExp(`<!ATTLIST ${element} ([^>]*)>`).exec(dtd)?.[1] ?? '';
      for (const [, attribute = ''] of attributes.matchAll(/ ([a-z-]+)=/g)) expect(declared).toContain(`${attribute} `);
    }
    expect(body.match(/<device /g)).toHaveLength(2);
  });

  it('is read back unchanged', () => {
    expect(contextFromXml(xml)).toEqual(CONTEXT);
    expect([...contextFromXml(xml).attributes]).toEqual([...CONTEXT.attributes]);
    expect(contextToXml(contextFromXml(xml))).toBe(xml);
  });

  it('escapes every text', () => {
    expect(xml).toContain('name="adc &amp; dac"');
    expect(xml).toContain('name="x&lt;y" label="&quot;quoted&quot;"');
    expect(xml).toContain('id="accel_x&amp;y&amp;z"');
    expect(xml).toContain('format="le:s12/16&gt;&gt;4"');
    expect(xml).toContain('e&apos;f&#9;g&#10;h&#13;i');
  });

  it('always gives channel attributes a filename, and no others', () => {
    expect(xml).toContain('<attribute name="raw" filename="in_voltage0_raw" />');
    expect(xml).toContain('<attribute name="same" filename="same" />');
    expect(xml).toContain('<attribute name="sampling_frequency" value=" 1e3 " />');
    expect(xml).toContain('<event-attribute name="thresh_rising_en" filename="in_voltage0_thresh_rising_en" />');
  });

  it('repeats buffer attributes for 0.2x clients where the device has exactly one buffer', () => {
    expect(xml.match(/<buffer-attribute /g)).toHaveLength(1);
    expect(xml).toContain('<buffer-attribute name="data_available" /></device></context>');
  });

  it('replaces characters that XML cannot hold', () => {
    const odd = contextToXml({ ...CONTEXT, devices: [], description: 'a\0b\x1bc\ud800d\uffff' });
    expect(odd).toContain('description="a\ufffdb\ufffdc\ufffdd\ufffd"');
    expect(contextFromXml(odd).description).toBe('a\ufffdb\ufffdc\ufffdd\ufffd');
  });
});

const HEADER = '<?xml version="1.0" encoding="utf-8"?>';
const HEAD_DOCUMENT = `${HEADER}<!DOCTYPE context [<!ELEMENT context (device | context-attribute)*><!ELEMENT device (channel | attribute)*><!ATTLIST context name CDATA #REQUIRED description CDATA #IMPLIED><!-- note -->]><context name="local" version-major="1" version-minor="0" version-git="v1.0"
 description="Linux host 6.12 ... armv7l" ><context-attribute name="hw_model" value="..." /><context-attribute name="local,kernel" value="6.12.0" />
<device id="iio:device0" name="adc" ><channel id="voltage0" type="input" ><scan-element index="0" format="le:s12/16&gt;&gt;0" />
<attribute name="raw" filename="in_voltage0_raw" /><attribute name="scale" filename="in_voltage_scale" /></channel>
<buffer index="0" direction="in" ><attribute name="data_available" /><channel id="voltage0" type="input" /></buffer>
<attribute name="sampling_frequency" /><debug-attribute name="direct_reg_access" /><buffer-attribute name="data_available" /></device></context>`;

function device(content: string): string {
  return `${HEADER}<context name="x"><device id="d">${content}</device></context>`;
}

const VOLTAGE = '<channel id="voltage0" type="input"><scan-element index="3" format="le:u8/8&gt;&gt;0"/></channel>';
const TEMP = '<channel id="temp0" type="input"></channel>';

describe('reading', () => {
  it('takes a document with DTD, white space and legacy buffer attributes', () => {
    const context = contextFromXml(HEAD_DOCUMENT);
    expect(context.description).toBe('Linux host 6.12 ... armv7l');
    expect(context.version).toEqual({ major: 1, minor: 0, git: 'v1.0' });
    expect([...context.attributes]).toEqual([
      ['hw_model', '...'],
      ['local,kernel', '6.12.0'],
    ]);
    expect(context.devices).toEqual([
      {
        id: 'iio:device0',
        name: 'adc',
        channels: [
          {
            id: 'voltage0',
            direction: 'in',
            scanElement: { index: 0, format: parseScanFormat('le:s12/16>>0') },
            attributes: [
              { name: 'raw', filename: 'in_voltage0_raw' },
              { name: 'scale', filename: 'in_voltage_scale' },
            ],
            eventAttributes: [],
          },
        ],
        buffers: [{ index: 0, direction: 'in', attributes: [{ name: 'data_available' }], channels: [0] }],
        attributes: [{ name: 'sampling_frequency' }],
        debugAttributes: [{ name: 'direct_reg_access' }],
        eventAttributes: [],
      },
    ]);
  });

  it('takes the same document without its DTD', () => {
    const bare = HEAD_DOCUMENT.replace(/<!DOCTYPE.*?\]>/s, '');
    expect(bare).not.toContain('DOCTYPE');
    expect(contextFromXml(bare)).toEqual(contextFromXml(HEAD_DOCUMENT));
  });

  it('makes buffer 0 of a 0.2x device from its scan elements and buffer attributes', () => {
    const [first] = contextFromXml(
      device(`${TEMP}${VOLTAGE}<buffer-attribute name="b"/><attribute name="a"/>`),
    ).devices;
    expect(first?.buffers).toEqual([{ index: 0, direction: 'in', attributes: [{ name: 'b' }], channels: [1] }]);
    expect(first?.attributes).toEqual([{ name: 'a' }]);
    expect(contextFromXml(device(TEMP)).devices[0]?.buffers).toEqual([]);
  });

  it('takes the buffer of a device with an output scan element for an output', () => {
    const output = VOLTAGE.replace('input', 'output');
    expect(contextFromXml(device(output)).devices[0]?.buffers[0]?.direction).toBe('out');
    expect(contextFromXml(device(`${output}<buffer index="0"/>`)).devices[0]?.buffers[0]?.direction).toBe('out');
  });

  it('gives a buffer without channel references all scan elements', () => {
    const [first] = contextFromXml(
      device(`${TEMP}${VOLTAGE}<buffer index="2" direction="in"><attribute name="x"/></buffer>`),
    ).devices;
    expect(first?.buffers).toEqual([{ index: 2, direction: 'in', attributes: [{ name: 'x' }], channels: [1] }]);
  });

  it('ignores buffer attributes next to a buffer element', () => {
    const [first] = contextFromXml(device(`${VOLTAGE}<buffer index="0"/><buffer-attribute name="b"/>`)).devices;
    expect(first?.buffers[0]?.attributes).toEqual([]);
  });

  it('ignores unknown elements and attributes, comments, text and CDATA', () => {
    const noise = '<!-- <device/> --><new flag="1"><device id="no"/></new>text<![CDATA[<device id="no"/>]]>';
    const plain = contextFromXml(device(VOLTAGE));
    const noisy = device(`${noise}${VOLTAGE.replace('type=', 'colour="red" type=')}`).replace(
      '<device',
      `${noise}<device`,
    );
    expect(contextFromXml(noisy)).toEqual(plain);
  });

  it('leaves values alone that look like numbers, or are padded with blanks', () => {
    const xml = '<context name="  007  " version-git="1e3"><context-attribute name="0x10" value=" true "/></context>';
    const context = contextFromXml(xml);
    expect([context.name, context.version.git, ...context.attributes]).toEqual(['  007  ', '1e3', ['0x10', ' true ']]);
  });

  it('resolves predefined and numeric references once', () => {
    expect(contextFromXml('<context name="&lt;&#65;&#x1F600;&amp;lt;&quot;"/>').name).toBe('<A\u{1f600}&lt;"');
  });

  it('keeps document order', () => {
    const xml = '<context><device id="b"><attribute name="z"/><attribute name="a"/></device><device id="a"/></context>';
    const { devices } = contextFromXml(xml);
    expect(devices.map(({ id }) => id)).toEqual(['b', 'a']);
    expect(devices[0]?.attributes.map(({ name }) => name)).toEqual(['z', 'a']);
  });

  it('does not confuse names with properties of objects', () => {
    const xml =
      '<context name="__proto__"><context-attribute name="__proto__" value="x"/><device id="constructor"/></context>';
    const context = contextFromXml(xml);
    expect(context.attributes.get('__proto__')).toBe('x');
    expect(context.devices[0]?.id).toBe('constructor');
  });
});

describe('refusing', () => {
  it.each([
    ['nothing', '', 'not well-formed'],
    ['a zstd frame', '\u0028\ufffd/\ufffd', 'not well-formed'],
    ['a truncated document', HEAD_DOCUMENT.slice(0, -20), 'not well-formed'],
    ['crossed tags', '<context><device id="a"></context></device>', 'not well-formed'],
    ['another root', '<html/>', '<html>: the root element must be <context>'],
    ['two roots', '<context/><context/>', '2 root elements'],
    ['a bare ampersand', '<context name="a & b"/>', 'unknown reference "& b"'],
    ['an unknown reference', '<context name="&nbsp;"/>', 'unknown reference "&nbsp;"'],
    ['a reference to NUL', '<context name="&#0;"/>', 'unknown reference'],
    ['a reference beyond Unicode', '<context name="&#x110000;"/>', 'unknown reference'],
    ['deep nesting', `<context>${'<a>'.repeat(5000)}${'</a>'.repeat(5000)}</context>`, 'nested'],
    ['a device without id', '<context><device name="a"/></context>', 'context: <device> lacks its id'],
    ['a channel without id', device('<channel type="input"/>'), 'device "d": <channel> lacks its id'],
    ['a channel without type', device('<channel id="c"/>'), 'channel "c": <channel> lacks its type'],
    ['a channel type', device('<channel id="c" type="in"/>'), '"in" is neither input nor output'],
    ['an attribute without name', device('<attribute filename="f"/>'), 'device "d": <attribute> lacks its name'],
    ['a scan index', device(VOLTAGE.replace('"3"', '"-1"')), 'channel "voltage0", scan-element: index: "-1"'],
    ['a huge scan index', device(VOLTAGE.replace('"3"', '"2147483648"')), 'not a decimal number'],
    ['a format', device(VOLTAGE.replace('u8/8', 'u8')), 'channel "voltage0", scan-element: scan element format'],
    ['a scale', device(VOLTAGE.replace('index', 'scale="1,5" index')), 'scale "1,5" is not a number'],
    ['a buffer index', device('<buffer index="first"/>'), 'buffer: index: "first"'],
    ['a buffer direction', device('<buffer index="0" direction="input"/>'), '"input" is neither in nor out'],
    [
      'a missing channel',
      device(`${VOLTAGE}<buffer index="0"><channel id="voltage0" type="output"/></buffer>`),
      'output channel "voltage0"',
    ],
    ['a context attribute without value', '<context><context-attribute name="a"/></context>', 'lacks its value'],
  ])('%s', (_, xml, message) => {
    const error = catchError(() => contextFromXml(xml));
    expect(error).toBeInstanceOf(IioError);
    expect(error).toMatchObject({ code: 'BAD_XML', message: expect.stringContaining(message) });
  });

  it('declared entities (a bomb, an external one, an unused one), and a document beyond the limit', () => {
    const bomb = `<!DOCTYPE context [<!ENTITY a "aaaaaaaaaa">${Array.from(
      { length: 20 },
      (_, i) => `<!ENTITY a${i} "${`&a${i - 1};`.repeat(10)}">`,
    ).join('')}]><context name="&a19;"/>`;
    const external = '<!DOCTYPE context [<!ENTITY x SYSTEM "file:///etc/passwd">]><context name="&x;"/>';
    const huge = `<context name="${'x'.repeat(MAX_CONTEXT_XML_LENGTH)}"/>`;
    const unused = '<!DOCTYPE context [<!ENTITY a "b">]><context/>';
    for (const xml of [bomb, external, unused, huge]) {
      expect(catchError(() => contextFromXml(xml))).toMatchObject({ code: 'BAD_XML' });
    }
  });
});

function catchError(action: () => unknown): unknown {
  try {
    action();
  } catch (error) {
    return error;
  }
  return undefined;
}
