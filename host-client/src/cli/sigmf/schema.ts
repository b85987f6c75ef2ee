import { IioError } from '@iio-bridge/protocol';
import { z } from 'zod';

const index = z.number().int().min(0);
const hertz = z.number().min(-1e12).max(1e12);

const globalSchema = z.looseObject({
  'core:datatype': z.string().regex(/^(c|r)(f32|f64|i32|i16|u32|u16|i8|u8)(_le|_be)?$/),
  'core:version': z.string().regex(/^\d+\.\d+\.\d+/),
  'core:sample_rate': z.number().min(1).max(1e12).optional(),
  'core:num_channels': z.number().int().min(1).max(1000).optional(),
  'core:offset': index.optional(),
  'core:author': z.string().optional(),
  'core:description': z.string().optional(),
  'core:hw': z.string().optional(),
  'core:recorder': z.string().optional(),
  'core:dataset': z.string().optional(),
  'core:trailing_bytes': index.optional(),
  'core:metadata_only': z.boolean().optional(),
  'core:sha512': z
    .string()
    .regex(/^[0-9a-fA-F]{128}$/)
    .optional(),
  'core:extensions': z
    .array(z.strictObject({ name: z.string(), version: z.string(), optional: z.boolean() }))
    .optional(),
});

const captureSchema = z.looseObject({
  'core:sample_start': index,
  'core:global_index': index.optional(),
  'core:header_bytes': index.optional(),
  'core:frequency': hertz.optional(),
  // RFC 3339, in UTC.
  'core:datetime': z
    .string()
    .regex(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$/)
    .optional(),
});

const annotationSchema = z
  .looseObject({
    'core:sample_start': index,
    'core:sample_count': index.optional(),
    'core:freq_lower_edge': hertz.optional(),
    'core:freq_upper_edge': hertz.optional(),
    'core:label': z.string().optional(),
    'core:comment': z.string().optional(),
    'core:generator': z.string().optional(),
    'core:uuid': z.uuid().optional(),
  })
  .refine(
    (annotation) =>
      (annotation['core:freq_lower_edge'] === undefined) === (annotation['core:freq_upper_edge'] === undefined),
    'core:freq_lower_edge and core:freq_upper_edge come together',
  );

/** What SigMF 1.x demands of a `.sigmf-meta` file; members of other namespaces pass. */
export const metadataSchema = z.strictObject({
  global: globalSchema,
  captures: z.array(captureSchema).refine(isSorted, 'must be in the order of core:sample_start'),
  annotations: z.array(annotationSchema).refine(isSorted, 'must be in the order of core:sample_start'),
});

export type Metadata = z.output<typeof metadataSchema>;
export type Capture = Metadata['captures'][number];
export type Annotation = Metadata['annotations'][number];

function isSorted(segments: readonly { readonly 'core:sample_start': number }[]): boolean {
  return segments.every(
    (segment, at) => at === 0 || (segments[at - 1]?.['core:sample_start'] ?? 0) <= segment['core:sample_start'],
  );
}

/** @throws IioError `BAD_SIGMF`, with a line for everything that is wrong; `origin` says where the text is from */
export function parseMetadata(text: string, origin: string): Metadata {
  let document: unknown;
  try {
    document = JSON.parse(text);
  } catch (error) {
    throw new IioError('BAD_SIGMF', `${origin} is not JSON: ${String(error)}`, { cause: error });
  }
  const parsed = metadataSchema.safeParse(document);
  if (!parsed.success) {
    throw new IioError('BAD_SIGMF', `${origin} is no SigMF metadata:\n${z.prettifyError(parsed.error)}`);
  }
  return parsed.data;
}
