import { expect, it } from 'vitest';
import { compareByteOrder, parseScanFormat, sortByName, sortChannels } from '../../../protocol/src/index.js';

it('sorts like strcmp on UTF-8', () => {
  const sorted = [
    '',
    'Z',
    '_',
    'a',
    'hwmon0',
    'iio:device0',
    'iio:device10',
    'iio:device2',
    'iio_sysfs_trigger',
    'scale',
    'scale_available',
    'trigger0',
    'é',
    '\uffee',
    '\u{1f600}',
  ];
  expect(sorted.toReversed().sort(compareByteOrder)).toEqual(sorted);
  const utf8 = sorted.map((text) => Buffer.from(text)).sort(Buffer.compare);
  expect(utf8.map((bytes) => bytes.toString())).toEqual(sorted);
  expect(sortByName([{ name: 'b' }, { name: 'B' }])).toEqual([{ name: 'B' }, { name: 'b' }]);
});

it('sorts channels by scan index, then shift, the others last and stable', () => {
  const element = (index: number, format: string) => ({ index, format: parseScanFormat(format) });
  const channels = [
    { id: 'temp0' },
    { id: 'c', scanElement: element(2, 'le:u4/16>>0') },
    { id: 'b', scanElement: element(0, 'le:u4/16>>4') },
    { id: 'curr0' },
    { id: 'a', scanElement: element(0, 'le:u4/16>>0') },
    { id: 'aaa0' },
  ];
  expect(sortChannels(channels).map(({ id }) => id)).toEqual(['a', 'b', 'c', 'temp0', 'curr0', 'aaa0']);
  expect(channels[0]?.id).toBe('temp0');
});
