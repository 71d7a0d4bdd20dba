// SPDX-License-Identifier: Apache-2.0
// The agent through @grpc/grpc-js. usage: node agent.js SOCKET PROTO_FOLDER ROOTFS
'use strict';
const assert = require('assert');
const crypto = require('crypto');
const path = require('path');
const modules = process.env.MICROPOD_NODE_MODULES;
const grpc = require(path.join(modules, '@grpc/grpc-js'));
const loader = require(path.join(modules, '@grpc/proto-loader'));

const [socket, protos, rootfs] = process.argv.slice(2);
const definition = loader.loadSync('agent.proto', {
  includeDirs: [protos], keepCase: true, longs: Number, enums: String, defaults: true, oneofs: true,
});
const { Agent } = grpc.loadPackageDefinition(definition).micropod.agent.v1;
const client = new Agent(`unix:${socket}`, grpc.credentials.createInsecure());
const id = `js-${process.pid}`;

const unary = (method, request) => new Promise((resolve, reject) =>
  client[method](request, { deadline: Date.now() + 60000 }, (e, answer) => (e ? reject(e) : resolve(answer))));

function exec(args, input) {
  return new Promise((resolve, reject) => {
    const call = client.ExecInContainer({ deadline: Date.now() + 60000 });
    const out = [];
    let exit = null;
    call.on('data', (event) => {
      if (event.kind === 'output') out.push(event.output.data);
      if (event.kind === 'exit') exit = event.exit;
    });
    call.on('error', reject);
    call.on('end', () => resolve({ out: Buffer.concat(out), exit }));
    call.write({ start: { container_id: id, process: { args: args.map(Buffer.from), open_stdin: input !== undefined } } });
    for (let at = 0; at < (input || '').length; at += 60000) call.write({ stdin: input.subarray(at, at + 60000) });
    call.end();
  });
}

async function main() {
  const info = await unary('Info', {});
  assert.strictEqual(info.api_generation, 1);
  const created = await unary('CreateContainer', { container_id: id, process_args: ['sleep', '1000'], rootfs_path: rootfs });
  assert.strictEqual(created.status, 'RUNNING', created.error_message);
  const input = crypto.randomBytes(3 << 20);
  const cat = await exec(['cat'], input);
  assert.strictEqual(cat.exit.code, 0);
  assert(cat.out.equals(input));
  assert.strictEqual((await exec(['sh', '-c', 'exit 9'])).exit.code, 9);
  await assert.rejects(exec(['no-such-program']), (e) => e.code === grpc.status.FAILED_PRECONDITION);
  await assert.rejects(unary('Wait', { container_id: 'none' }), (e) => e.code === grpc.status.NOT_FOUND);
  await unary('DeleteContainer', { container_id: id, force: true });
  console.log('ok');
}

main().then(() => client.close(), (e) => { console.error(e); process.exit(1); });
