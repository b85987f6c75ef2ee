import { formatScanFormat } from './format.js';
import type {
  AttributeDescription,
  BufferDescription,
  ChannelDescription,
  ContextDescription,
  DeviceDescription,
  Direction,
} from './model.js';

type Presence = '#REQUIRED' | '#IMPLIED';

interface ElementDeclaration {
  readonly element: string;
  readonly content: string;
  readonly attributes: readonly (readonly [name: string, type: string, presence: Presence])[];
}

const NAMED = [
  ['name', 'CDATA', '#REQUIRED'],
  ['value', 'CDATA', '#IMPLIED'],
] as const;
const NAMED_FILE = [...NAMED, ['filename', 'CDATA', '#IMPLIED']] as const;

/** What the document may hold. Clients take the declaration of `event-attribute` for a sign of the opcode generation. */
const DECLARATIONS: readonly ElementDeclaration[] = [
  {
    element: 'context',
    content: '(device | context-attribute)*',
    attributes: [
      ['name', 'CDATA', '#REQUIRED'],
      ['version-major', 'CDATA', '#REQUIRED'],
      ['version-minor', 'CDATA', '#REQUIRED'],
      ['version-git', 'CDATA', '#REQUIRED'],
      ['description', 'CDATA', '#IMPLIED'],
    ],
  },
  {
    element: 'context-attribute',
    content: 'EMPTY',
    attributes: [
      ['name', 'CDATA', '#REQUIRED'],
      ['value', 'CDATA', '#REQUIRED'],
    ],
  },
  {
    element: 'device',
    content: '(channel | buffer | attribute | debug-attribute | event-attribute | buffer-attribute)*',
    attributes: [
      ['id', 'CDATA', '#REQUIRED'],
      ['name', 'CDATA', '#IMPLIED'],
      ['label', 'CDATA', '#IMPLIED'],
    ],
  },
  {
    element: 'channel',
    content: '(scan-element?, attribute*, event-attribute*)',
    attributes: [
      ['id', 'CDATA', '#REQUIRED'],
      ['type', '(input|output)', '#REQUIRED'],
      ['name', 'CDATA', '#IMPLIED'],
      ['label', 'CDATA', '#IMPLIED'],
    ],
  },
  {
    element: 'scan-element',
    content: 'EMPTY',
    attributes: [
      ['index', 'CDATA', '#REQUIRED'],
      ['format', 'CDATA', '#REQUIRED'],
      ['scale', 'CDATA', '#IMPLIED'],
    ],
  },
  {
    element: 'buffer',
    content: '(attribute*, channel*)',
    attributes: [
      ['index', 'CDATA', '#REQUIRED'],
      ['direction', '(in|out)', '#IMPLIED'],
    ],
  },
  { element: 'attribute', content: 'EMPTY', attributes: NAMED_FILE },
  { element: 'event-attribute', content: 'EMPTY', attributes: NAMED_FILE },
  { element: 'debug-attribute', content: 'EMPTY', attributes: NAMED },
  { element: 'buffer-attribute', content: 'EMPTY', attributes: NAMED },
];

const PROLOGUE =
  '<?xml version="1.0" encoding="utf-8"?><!DOCTYPE context [' +
  DECLARATIONS.map(({ element, content, attributes }) => {
    const list = attributes.map(([name, type, presence]) => ` ${name} ${type} ${presence}`).join('');
    return `<!ELEMENT ${element} ${content}><!ATTLIST ${element}${list}>`;
  }).join('') +
  ']>';

/**
 * The document that a server sends for PRINT: one line, with an inline DTD, and every text escaped. Lists stay in the
 * description's order, which must be the order that the protocol numbers them in (see order.ts).
 *
 * Characters that XML 1.0 cannot hold (most control characters, lone surrogates) become U+FFFD. A device with exactly
 * one buffer also gets `buffer-attribute` elements, for clients of the 0.2x series.
 */
export function contextToXml(context: ContextDescription): string {
  const content = [
    ...Array.from(context.attributes, ([name, value]) => element('context-attribute', { name, value })),
    ...context.devices.map(deviceToXml),
  ];
  const attributes = {
    name: context.name,
    'version-major': context.version.major,
    'version-minor': context.version.minor,
    'version-git': context.version.git,
    description: context.description,
  };
  return PROLOGUE + element('context', attributes, content);
}

function deviceToXml(device: DeviceDescription): string {
  const [buffer, ...moreBuffers] = device.buffers;
  const legacy = buffer === undefined || moreBuffers.length > 0 ? [] : buffer.attributes;
  return element('device', { id: device.id, name: device.name, label: device.label }, [
    ...device.channels.map(channelToXml),
    ...device.buffers.map((entry) => bufferToXml(entry, device)),
    ...device.attributes.map((attribute) => attributeToXml('attribute', attribute)),
    ...device.debugAttributes.map((attribute) => attributeToXml('debug-attribute', attribute)),
    ...device.eventAttributes.map((attribute) => attributeToXml('event-attribute', attribute)),
    ...legacy.map((attribute) => attributeToXml('buffer-attribute', attribute)),
  ]);
}

function channelToXml(channel: ChannelDescription): string {
  const scanElement = channel.scanElement;
  return element(
    'channel',
    { id: channel.id, type: channelType(channel.direction), name: channel.name, label: channel.label },
    [
      ...(scanElement === undefined
        ? []
        : [
            element('scan-element', {
              index: scanElement.index,
              format: formatScanFormat(scanElement.format),
              scale: scanElement.scale,
            }),
          ]),
      ...channel.attributes.map((attribute) => fileAttributeToXml('attribute', attribute)),
      ...channel.eventAttributes.map((attribute) => fileAttributeToXml('event-attribute', attribute)),
    ],
  );
}

function bufferToXml(buffer: BufferDescription, device: DeviceDescription): string {
  const channels = buffer.channels.flatMap((position) => device.channels[position] ?? []);
  return element('buffer', { index: buffer.index, direction: buffer.direction }, [
    ...buffer.attributes.map((attribute) => attributeToXml('attribute', attribute)),
    ...channels.map(({ id, direction }) => element('channel', { id, type: channelType(direction) })),
  ]);
}

function channelType(direction: Direction): string {
  return direction === 'in' ? 'input' : 'output';
}

function attributeToXml(name: string, attribute: AttributeDescription): string {
  return element(name, { name: attribute.name, value: attribute.value });
}

function fileAttributeToXml(name: string, attribute: AttributeDescription): string {
  return element(name, {
    name: attribute.name,
    filename: attribute.filename ?? attribute.name,
    value: attribute.value,
  });
}

function element(
  name: string,
  attributes: Readonly<Record<string, string | number | undefined>>,
  content: readonly string[] = [],
): string {
  const list = Object.entries(attributes)
    .flatMap(([key, value]) => (value === undefined ? [] : ` ${key}="${escapeXml(String(value))}"`))
    .join('');
  return content.length === 0 ? `<${name}${list} />` : `<${name}${list} >${content.join('')}</${name}>`;
}

const ESCAPES: ReadonlyMap<string, string> = new Map([
  ['&', '&amp;'],
  ['<', '&lt;'],
  ['>', '&gt;'],
  ['"', '&quot;'],
  ["'", '&apos;'],
  // Literal white space in an attribute value would be read back as blanks.
  ['\t', '&#9;'],
  ['\n', '&#10;'],
  ['\r', '&#13;'],
]);

/** Not a `Char` of XML 1.0 (production 2). */
const UNREPRESENTABLE = /[^\t\n\r\u{20}-\u{d7ff}\u{e000}-\u{fffd}\u{10000}-\u{10ffff}]/gu;

function escapeXml(text: string): string {
  return text.replace(UNREPRESENTABLE, '\ufffd').replace(/[&<>"'\t\n\r]/g, (character) => ESCAPES.get(character) ?? '');
}
