import { XMLParser } from 'fast-xml-parser';
import { IioError } from './errors.js';
import { parseScanFormat } from './format.js';
import type {
  AttributeDescription,
  BufferDescription,
  ChannelDescription,
  ContextDescription,
  DeviceDescription,
  Direction,
  ScanElement,
} from './model.js';

/** Characters. The document of a large board is 40 to 64 KiB; a document near this limit is a fault or an attack. */
export const MAX_CONTEXT_XML_LENGTH = 4 * 1024 * 1024;

interface XmlElement {
  readonly name: string;
  readonly attributes: ReadonlyMap<string, string>;
  readonly children: readonly XmlElement[];
}

const ATTRIBUTE_PREFIX = '@';

const parser = new XMLParser({
  preserveOrder: true,
  ignoreAttributes: false,
  attributeNamePrefix: ATTRIBUTE_PREFIX,
  parseTagValue: false,
  parseAttributeValue: false,
  trimValues: false,
  ignoreDeclaration: true,
  ignorePiTags: true,
  // References are resolved here, in decodeReferences, so that a declared entity can never expand to anything.
  processEntities: false,
  maxNestedTags: 32,
});

/**
 * Reads the document that a server of any generation sends: with or without a DTD, unknown elements and attributes
 * ignored, lists in document order.
 *
 * Servers differ, and these differences are evened out: a `buffer` that lists no channels carries all scan elements; a
 * device without `buffer` gets buffer 0 with its `buffer-attribute`s if it has scan elements; an attribute without
 * `filename` lives in a file of its own name.
 *
 * @throws IioError `BAD_XML` naming the element at fault: not well-formed, longer than {@link MAX_CONTEXT_XML_LENGTH},
 *   declaring entities, lacking a required attribute, or holding a value that cannot be read
 */
export function contextFromXml(xml: string): ContextDescription {
  if (xml.length > MAX_CONTEXT_XML_LENGTH) {
    throw new IioError('BAD_XML', `context XML of ${xml.length} characters (limit ${MAX_CONTEXT_XML_LENGTH})`);
  }
  if (xml.includes('<!ENTITY')) throw badXml('document', 'declares entities, which no IIO server does');
  const root = parseDocument(xml);
  if (root.name !== 'context') throw badXml(`<${root.name}>`, 'the root element must be <context>');

  const where = 'context';
  const attributes = new Map<string, string>();
  const devices: DeviceDescription[] = [];
  for (const child of root.children) {
    if (child.name === 'context-attribute') {
      attributes.set(required(child, 'name', where), required(child, 'value', where));
    } else if (child.name === 'device') {
      devices.push(readDevice(child, where));
    }
  }
  return {
    name: root.attributes.get('name') ?? '',
    description: root.attributes.get('description') ?? '',
    version: {
      major: readVersion(root, 'version-major', where),
      minor: readVersion(root, 'version-minor', where),
      git: root.attributes.get('version-git') ?? '',
    },
    attributes,
    devices,
  };
}

function readVersion(root: XmlElement, key: string, where: string): number {
  const text = root.attributes.get(key);
  return text === undefined ? 0 : decimal(text, `${where}: ${key}`);
}

function readDevice(element: XmlElement, parent: string): DeviceDescription {
  const id = required(element, 'id', parent);
  const where = `device ${JSON.stringify(id)}`;
  const channels = children(element, 'channel').map((child) => readChannel(child, where));
  const streamable = channels.flatMap((channel, position) => (channel.scanElement === undefined ? [] : position));

  const buffers = children(element, 'buffer').map((child) => readBuffer(child, channels, streamable, where));
  if (buffers.length === 0 && streamable.length > 0) {
    buffers.push({
      index: 0,
      direction: directionOf(streamable, channels),
      attributes: readAttributes(element, 'buffer-attribute', where),
      channels: streamable,
    });
  }
  return {
    id,
    ...optional('name', element.attributes.get('name')),
    ...optional('label', element.attributes.get('label')),
    channels,
    buffers,
    attributes: readAttributes(element, 'attribute', where),
    debugAttributes: readAttributes(element, 'debug-attribute', where),
    eventAttributes: readAttributes(element, 'event-attribute', where),
  };
}

function readChannel(element: XmlElement, parent: string): ChannelDescription {
  const id = required(element, 'id', parent);
  const where = `${parent}, channel ${JSON.stringify(id)}`;
  const direction = readChannelType(element, where);
  const [scanElement] = children(element, 'scan-element').map((child) => readScanElement(child, where));
  return {
    id,
    direction,
    ...optional('name', element.attributes.get('name')),
    ...optional('label', element.attributes.get('label')),
    ...optional('scanElement', scanElement),
    attributes: readAttributes(element, 'attribute', where),
    eventAttributes: readAttributes(element, 'event-attribute', where),
  };
}

function readChannelType(element: XmlElement, where: string): Direction {
  const type = required(element, 'type', where);
  if (type === 'input') return 'in';
  if (type === 'output') return 'out';
  throw badXml(where, `type ${quote(type)} is neither input nor output`);
}

function readScanElement(element: XmlElement, parent: string): ScanElement {
  const where = `${parent}, scan-element`;
  const index = decimal(required(element, 'index', where), `${where}: index`);
  const formatText = required(element, 'format', where);
  const scaleText = element.attributes.get('scale');
  const scale = scaleText === undefined ? undefined : Number(scaleText);
  if (scale !== undefined && (!Number.isFinite(scale) || scaleText?.trim() === '')) {
    throw badXml(where, `scale ${quote(scaleText ?? '')} is not a number`);
  }
  try {
    return { index, format: parseScanFormat(formatText), ...optional('scale', scale) };
  } catch (cause) {
    throw badXml(where, cause instanceof Error ? cause.message : String(cause), cause);
  }
}

function readBuffer(
  element: XmlElement,
  channels: readonly ChannelDescription[],
  streamable: readonly number[],
  parent: string,
): BufferDescription {
  const index = decimal(required(element, 'index', `${parent}, buffer`), `${parent}, buffer: index`);
  const where = `${parent}, buffer ${index}`;
  const references = children(element, 'channel').map((child) => {
    const id = required(child, 'id', where);
    const direction = readChannelType(child, where);
    const position = channels.findIndex((channel) => channel.id === id && channel.direction === direction);
    if (position < 0) throw badXml(where, `refers to ${direction}put channel ${quote(id)}, which the device lacks`);
    return position;
  });
  const positions = references.length === 0 ? streamable : references;
  return {
    index,
    direction: readBufferDirection(element, where) ?? directionOf(positions, channels),
    attributes: readAttributes(element, 'attribute', where),
    channels: positions,
  };
}

function readBufferDirection(element: XmlElement, where: string): Direction | undefined {
  const direction = element.attributes.get('direction');
  if (direction === undefined || direction === 'in' || direction === 'out') return direction;
  throw badXml(where, `direction ${quote(direction)} is neither in nor out`);
}

function directionOf(positions: readonly number[], channels: readonly ChannelDescription[]): Direction {
  return positions.some((position) => channels[position]?.direction === 'out') ? 'out' : 'in';
}

function readAttributes(element: XmlElement, kind: string, where: string): AttributeDescription[] {
  return children(element, kind).map((child) => {
    const name = required(child, 'name', where);
    const filename = child.attributes.get('filename');
    return {
      name,
      ...optional('filename', filename === name ? undefined : filename),
      ...optional('value', child.attributes.get('value')),
    };
  });
}

function children(element: XmlElement, name: string): XmlElement[] {
  return element.children.filter((child) => child.name === name);
}

function required(element: XmlElement, key: string, parent: string): string {
  const value = element.attributes.get(key);
  if (value === undefined) throw badXml(parent, `<${element.name}> lacks its ${key}`);
  return value;
}

/** Up to 2^31 - 1, as C's int. */
function decimal(text: string, where: string): number {
  const value = /^\d{1,10}$/.test(text) ? Number(text) : Number.NaN;
  if (!(value <= 0x7fff_ffff)) throw badXml(where, `${quote(text)} is not a decimal number`);
  return value;
}

function optional<K extends string, V>(key: K, value: V | undefined): { readonly [P in K]?: V } {
  const entry: { [P in K]?: V } = {};
  if (value !== undefined) entry[key] = value;
  return entry;
}

/** The root element of the document. */
function parseDocument(xml: string): XmlElement {
  let nodes: unknown;
  try {
    nodes = parser.parse(xml, true);
  } catch (cause) {
    throw badXml('document', `is not well-formed: ${cause instanceof Error ? cause.message : String(cause)}`, cause);
  }
  const roots = readNodes(nodes);
  const [root] = roots;
  if (root === undefined || roots.length > 1) throw badXml('document', `has ${roots.length} root elements`);
  return root;
}

/** From the parser's form: a list of `{ tag: [children], ':@': { '@name': 'value' } }`, text being a tag `#text`. */
function readNodes(nodes: unknown): XmlElement[] {
  if (!Array.isArray(nodes)) return [];
  return nodes.flatMap((node: unknown) => {
    const fields = isRecord(node) ? Object.entries(node) : [];
    const tag = fields.find(([key]) => key !== ':@' && key !== '#text');
    if (tag === undefined) return [];
    const [name, content] = tag;
    const raw = fields.find(([key]) => key === ':@')?.[1];
    const attributes = new Map<string, string>();
    for (const [key, value] of isRecord(raw) ? Object.entries(raw) : []) {
      attributes.set(key.slice(ATTRIBUTE_PREFIX.length), decodeReferences(String(value), name));
    }
    return [{ name, attributes, children: readNodes(content) }];
  });
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null;
}

const PREDEFINED: ReadonlyMap<string, string> = new Map([
  ['amp', '&'],
  ['lt', '<'],
  ['gt', '>'],
  ['quot', '"'],
  ['apos', "'"],
]);

function decodeReferences(text: string, element: string): string {
  return text.replace(/&([^;]*);?/g, (reference, body: string) => {
    const predefined = PREDEFINED.get(body);
    const [, hex, dec] = /^#(?:x([0-9a-fA-F]{1,6})|(\d{1,7}))$/.exec(body) ?? [];
    const codePoint = hex === undefined ? Number(dec) : Number.parseInt(hex, 16);
    if (!reference.endsWith(';') || (predefined === undefined && !(codePoint > 0 && codePoint <= 0x10_ffff))) {
      throw badXml(`<${element}>`, `unknown reference ${quote(reference)}`);
    }
    return predefined ?? String.fromCodePoint(codePoint);
  });
}

function quote(text: string): string {
  return JSON.stringify(text.slice(0, 80));
}

function badXml(where: string, what: string, cause?: unknown): IioError {
  return new IioError('BAD_XML', `context XML: ${where}: ${what}`, cause === undefined ? undefined : { cause });
}
