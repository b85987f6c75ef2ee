import { contextToXml, encodeU32, GENERATIONS, type Generation } from '@iio-bridge/protocol';
import { describe, expect, it, onTestFinished } from 'vitest';
import { Context, type ContextOptions } from '../../../host-client/src/core/context.js';
import { Context as NodeContext } from '../../../host-client/src/index.js';
import { useBridge } from './cli-harness.js';
import { CONTEXT, type FakeRequest, FakeServer } from './fake-server.js';

/** What a server of the generation serves: `event-attribute` is declared since E. */
function documentOf(generation: Generation): Uint8Array {
  const xml = contextToXml(CONTEXT);
  return Buffer.from(generation >= 'E' ? xml : xml.replace(/<!ELEMENT event-attribute[^>]*>/, ''));
}

function answerOf({ operation, answer }: FakeRequest): boolean {
  switch (operation) {
    case 'GETTRIG':
      answer(0);
      return true;
    case 'REG_READ':
      answer(4, encodeU32(0xabcd));
      return true;
    default:
      return false;
  }
}

async function connect(generation: Generation, options: ContextOptions = {}) {
  const server = new FakeServer({ generation, document: documentOf(generation), intercept: answerOf });
  const context = await Context.connect(server.transport, { timeoutMs: 5000, ...options });
  onTestFinished(() => context.close());
  return { server, adc: context.device('adc') };
}

describe.each(GENERATIONS)('a server of generation %s', (generation) => {
  it('gets its own opcodes for attributes and triggers', async () => {
    const { server, adc } = await connect(generation);
    server.log.length = 0;
    await adc.attribute('Zero').write('1');
    await adc.attribute('Zero').read();
    await adc.debugAttribute('direct_reg_access').write('2');
    await adc.debugAttribute('direct_reg_access').read();
    await adc.buffer(0).attribute('watermark').write('3');
    await adc.buffer(0).attribute('watermark').read();
    await adc.channel('voltage1').attribute('offset').write('4');
    await adc.channel('voltage1').attribute('offset').read();
    expect((await adc.getTrigger())?.id).toBe('iio:device10');
    await adc.setTrigger(undefined);
    expect(server.log).toEqual(
      [
        ...['WRITE_ATTR', 'READ_ATTR', 'WRITE_DBG_ATTR', 'READ_DBG_ATTR'],
        ...['WRITE_BUF_ATTR', 'READ_BUF_ATTR', 'WRITE_CHN_ATTR', 'READ_CHN_ATTR'],
        ...['GETTRIG', 'SETTRIG'],
      ].map((operation) => `main: ${operation}`),
    );
  });

  it('gets its own opcodes for buffers', async () => {
    const { server, adc } = await connect(generation);
    server.log.length = 0;
    const stream = await adc.createRxStream({ samplesPerBlock: 64, blocks: 1 });
    for (let block = 0; block < 2; block++) {
      (await stream.next()).value?.release();
    }
    await stream.close();
    expect(server.log.map((entry) => entry.split(' ')[1])).toEqual([
      ...['TIMEOUT', 'OPEN_BUFFER', 'CREATE_BLOCK', 'TRANSFER_BLOCK', 'ENABLE_BUFFER'],
      ...['TRANSFER_BLOCK', 'TRANSFER_BLOCK', 'FREE_BLOCK', 'DISABLE_BUFFER', 'CLOSE_BUFFER', 'closed'],
    ]);
  });

  it('is asked for registers by an operation only if it surely has one', async () => {
    const { server, adc } = await connect(generation);
    server.log.length = 0;
    await adc.writeRegister(0x10, 0x20);
    expect(server.log).toEqual([generation >= 'E' ? 'main: REG_WRITE' : 'main: WRITE_DBG_ATTR']);
  });
});

it('a server that is known to be of generation D is asked for registers by its operations', async () => {
  const { server, adc } = await connect('D', { generation: 'D' });
  expect(await adc.readRegister(0x10)).toBe(0xabcd);
  expect(server.log.at(-1)).toBe('main: REG_READ');
});

const bridges = GENERATIONS.map((generation) => ({
  generation,
  uri: useBridge({ args: ['--free-running'], config: { protocol: { generation } } }),
}));

it.each(bridges)(
  'iio-bridge, told that its clients are of generation $generation, serves one',
  async ({ generation, uri }) => {
    await using context = await NodeContext.open(uri(), { generation });
    const frequency = context.device('emu-adc').attribute('sampling_frequency');
    await frequency.write('20000');
    expect(await frequency.read()).toBe('20000');
    await using input = await context.device('emu-adc').createRxStream({ samplesPerBlock: 500 });
    for (let block = 0; block < 10; block++) {
      using value = (await input.next()).value;
      expect(value?.samples).toBe(500);
    }
    await using output = await context.device('emu-dac').createTxStream({ samplesPerBlock: 500 });
    await output.write(new Uint8Array(3 * 500 * output.layout.bytes));
    await output.flush();
    expect(output.statistics.blocks).toBe(3);
  },
);
