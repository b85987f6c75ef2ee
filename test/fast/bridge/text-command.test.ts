import { describe, expect, it } from 'vitest';
import { parseCommand } from '../../../src/bridge/text/command.js';

describe('parseCommand', () => {
  it.each([
    ['VERSION\r', { command: 'version' }],
    ['version', { command: 'version' }],
    ['  HELP \t\r', { command: 'help' }],
    ['QUIT', { command: 'exit' }],
    ['BINARY\r', { command: 'binary' }],
    ['TIMEOUT 2500', { command: 'timeout', ms: 2500 }],
    ['TIMEOUT -1', { command: 'timeout', ms: -1 }],
    ['READ iio:device2 ', { command: 'read', target: { kind: 'device', device: 'iio:device2', attribute: undefined } }],
    ['READ adc raw', { command: 'read', target: { kind: 'device', device: 'adc', attribute: 'raw' } }],
    ['READ adc DEBUG', { command: 'read', target: { kind: 'debug', device: 'adc', attribute: undefined } }],
    [
      'READ adc buffer watermark',
      { command: 'read', target: { kind: 'buffer', device: 'adc', attribute: 'watermark' } },
    ],
    [
      'read adc INPUT voltage0-voltage1 raw',
      {
        command: 'read',
        target: { kind: 'channel', device: 'adc', direction: 'in', channel: 'voltage0-voltage1', attribute: 'raw' },
      },
    ],
    [
      'READ adc OUTPUT altvoltage0',
      {
        command: 'read',
        target: { kind: 'channel', device: 'adc', direction: 'out', channel: 'altvoltage0', attribute: undefined },
      },
    ],
    [
      'WRITE adc adi,rx-rf-port-input-select 5',
      {
        command: 'write',
        target: { kind: 'device', device: 'adc', attribute: 'adi,rx-rf-port-input-select' },
        bytes: 5,
      },
    ],
    ['WRITE adc 12', { command: 'write', target: { kind: 'device', device: 'adc', attribute: undefined }, bytes: 12 }],
    [
      'WRITE adc INPUT INPUT BUFFER 2',
      {
        command: 'write',
        target: { kind: 'channel', device: 'adc', direction: 'in', channel: 'INPUT', attribute: 'BUFFER' },
        bytes: 2,
      },
    ],
    ['READ adc a&b,c,d', { command: 'read', target: { kind: 'device', device: 'adc', attribute: 'a&b,c,d' } }],
    ['GETTRIG adc', { command: 'get-trigger', device: 'adc' }],
    ['SETTRIG adc', { command: 'set-trigger', device: 'adc', trigger: undefined }],
    ['SETTRIG adc trigger0', { command: 'set-trigger', device: 'adc', trigger: 'trigger0' }],
    ['OPEN adc 64 00000003', { command: 'open', device: 'adc', samples: 64, mask: '00000003', cyclic: false }],
    ['OPEN adc 64 00000003 cyclic', { command: 'open', device: 'adc', samples: 64, mask: '00000003', cyclic: true }],
    ['CLOSE adc', { command: 'close', device: 'adc' }],
    ['READBUF adc 256', { command: 'read-buffer', device: 'adc', bytes: 256 }],
    ['WRITEBUF adc 256', { command: 'write-buffer', device: 'adc', bytes: 256 }],
    ['SET adc BUFFERS_COUNT 4', { command: 'set-buffers-count', device: 'adc', count: 4 }],
    ['SET adc buffers_count 0', { command: 'set-buffers-count', device: 'adc', count: 0 }],
  ])('reads %j', (line, command) => {
    expect(parseCommand(line)).toStrictEqual(command);
  });

  it.each(['', '\r', ' \t \r'])('takes %j for a blank line', (line) => {
    expect(parseCommand(line)).toBeUndefined();
  });

  it.each([
    'FOO',
    'Version',
    'VERSION 2',
    'TIMEOUT',
    'TIMEOUT soon',
    'TIMEOUT 1.5',
    'TIMEOUT 1 2',
    'READ',
    'READ adc INPUT',
    'READ adc raw more',
    'READ adc DEBUG a b',
    'READ adc INPUT voltage0 raw more',
    'WRITE adc',
    'WRITE adc raw',
    'WRITE adc raw -1',
    'WRITE adc INPUT 5',
    'GETTRIG',
    'GETTRIG adc more',
    'SETTRIG adc one two',
    'OPEN adc 64',
    'OPEN adc many 00000001',
    'OPEN adc 64 00000003 FOREVER',
    'OPEN adc 64 00000003 CYCLIC CYCLIC',
    'CLOSE',
    'READBUF adc',
    'READBUF adc -4',
    'SET adc 4',
    'SET adc TIMEOUT 4',
    'READ adc r\u0000aw',
    'READ adc \u007f',
  ])('refuses %j', (line) => {
    expect(parseCommand(line)).toBe('syntax-error');
  });
});
