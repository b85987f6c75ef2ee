import { describe, expect, test } from 'vitest';
import { streamPath } from '../../../src/bridge/stream-mode.js';

const ZERO_COPY = { source: 'iio-dmabuf', sink: 'usb-dmabuf' } as const;

describe('a stream', () => {
  test('without a copy has nothing to explain', () => {
    expect(streamPath(ZERO_COPY)).toEqual({ mode: 'zero-copy', ...ZERO_COPY, fallbacks: [] });
  });

  test('that copies on purpose has nothing to explain either', () => {
    expect(streamPath({ source: 'iio-read', sink: 'usb-aio' })).toMatchObject({ mode: 'copy', fallbacks: [] });
    expect(streamPath({ source: 'iio-dmabuf', sink: 'usb-aio' })).toMatchObject({ mode: 'half-copy', fallbacks: [] });
    expect(streamPath({ source: 'iio-read', sink: 'usb-dmabuf' })).toMatchObject({ mode: 'half-copy', fallbacks: [] });
  });

  test.each([
    ['EPERM', 'no-dmabuf-buffer'],
    ['ENOTTY', 'kernel-too-old'],
    ['EINVAL', 'kernel-too-old'],
    ['ENOMEM', 'no-dma-memory'],
    ['EIO', 'iio-attach-failed:EIO'],
  ])('whose converter refuses a dmabuf with %s says %s', (sourceRefusal, fallback) => {
    expect(streamPath({ source: 'iio-read', sink: 'usb-dmabuf', sourceRefusal })).toEqual({
      mode: 'half-copy',
      source: 'iio-read',
      sink: 'usb-dmabuf',
      fallbacks: [fallback],
    });
  });

  test.each([
    ['EPERM', 'udc-no-sg'],
    ['ENOTTY', 'kernel-too-old'],
    ['ENOMEM', 'no-dma-memory'],
    ['EIO', 'usb-attach-failed:EIO'],
  ])('whose USB controller refuses a dmabuf with %s says %s', (sinkRefusal, fallback) => {
    expect(streamPath({ source: 'iio-dmabuf', sink: 'usb-aio', sinkRefusal })).toEqual({
      mode: 'half-copy',
      source: 'iio-dmabuf',
      sink: 'usb-aio',
      fallbacks: [fallback],
    });
  });

  test('on a kernel before 6.9, which has neither request, says so once', () => {
    expect(
      streamPath({ source: 'iio-read', sink: 'usb-aio', sourceRefusal: 'ENOTTY', sinkRefusal: 'ENOTTY' }),
    ).toMatchObject({ mode: 'copy', fallbacks: ['kernel-too-old'] });
  });

  test('that falls back on both sides for different reasons names both', () => {
    expect(
      streamPath({ source: 'iio-read', sink: 'usb-aio', sourceRefusal: 'EPERM', sinkRefusal: 'EPERM' }),
    ).toMatchObject({ mode: 'copy', fallbacks: ['no-dmabuf-buffer', 'udc-no-sg'] });
  });
});
