// SPDX-License-Identifier: Apache-2.0
// A sandbox through a server, with @grpc/grpc-js. usage: node run.js HOST:PORT TOKEN_FILE IMAGE
'use strict';
const assert = require('assert');
const crypto = require('crypto');
const fs = require('fs');
const path = require('path');

const modules = process.env.MICROPOD_NODE_MODULES || '';
const grpc = require(path.join(modules, '@grpc/grpc-js'));
const loader = require(path.join(modules, '@grpc/proto-loader'));

const definition = loader.loadSync(['agent.proto', 'host.proto'], {
  includeDirs: [path.join(__dirname, '../proto')], keepCase: true, longs: Number, enums: String, oneofs: true,
});
const { agent, host } = grpc.loadPackageDefinition(definition).micropod;

class Server {
  constructor(address, token) {
    this.address = address;
    this.token = token;
    this.host = new host.v1.Host(address, grpc.credentials.createInsecure());
    this.agent = new agent.v1.Agent(address, grpc.credentials.createInsecure());
  }

  metadata(sandbox) {
    const metadata = new grpc.Metadata();
    metadata.set('authorization', `Bearer ${this.token}`);
    if (sandbox) metadata.set('micropod-sandbox', sandbox);
    return metadata;
  }

  // One of micropod's own commands on a host: its output, or an error with its words.
  command(...words) {
    return new Promise((resolve, reject) => {
      const call = this.host.Command(this.metadata());
      const out = { stdout: '', stderr: '', exit_code: null };
      call.on('data', (event) => {
        if (event.kind === 'exit_code') out.exit_code = event.exit_code;
        else out[event.kind] += event[event.kind].toString();
      });
      call.on('error', reject);
      call.on('end', () => (out.exit_code === 0 ? resolve(out.stdout.trim()) : reject(new Error(out.stderr.trim()))));
      call.write({ start: { args: words.map((word) => Buffer.from(word)) } });
      call.end();
    });
  }

  exec(sandbox, words, input) {
    return new Promise((resolve, reject) => {
      const call = this.agent.ExecInContainer(this.metadata(sandbox));
      const out = [];
      let code = null;
      call.on('data', (event) => {
        if (event.kind === 'output') out.push(event.output.data);
        if (event.kind === 'exit') code = event.exit.code;
      });
      call.on('error', reject);
      call.on('end', () => resolve({ out: Buffer.concat(out), code }));
      const process = { args: words.map((word) => Buffer.from(word)), open_stdin: true };
      call.write({ start: { container_id: 'main', process } });
      for (let at = 0; input && at < input.length; at += 65536) call.write({ stdin: input.subarray(at, at + 65536) });
      call.end();
    });
  }

  write(sandbox, path, data) {
    return new Promise((resolve, reject) => {
      const call = this.agent.WriteFile(this.metadata(sandbox), (error, entry) => (error ? reject(error) : resolve(entry)));
      call.write({ scope: { container_id: 'main' }, path: Buffer.from(path) });
      for (let at = 0; at < data.length; at += 65536) call.write({ data: data.subarray(at, at + 65536) });
      call.end();
    });
  }

  read(sandbox, path) {
    return new Promise((resolve, reject) => {
      const call = this.agent.ReadFile({ scope: { container_id: 'main' }, path: Buffer.from(path) }, this.metadata(sandbox));
      const out = [];
      call.on('data', (part) => out.push(part.data));
      call.on('error', reject);
      call.on('end', () => resolve(Buffer.concat(out)));
    });
  }

  listens(sandbox, port) {
    return new Promise((resolve, reject) => this.agent.ListPorts({ container_id: 'main' }, this.metadata(sandbox),
      (error, answer) => (error ? reject(error) : resolve(answer.ports.some((one) => one.port === port)))));
  }

  // What a port in the sandbox answers to some bytes.
  talk(sandbox, port, data) {
    return new Promise((resolve, reject) => {
      const call = this.agent.Forward(this.metadata(sandbox));
      const out = [];
      call.on('data', (event) => {
        if (event.kind === 'data') out.push(event.data);
      });
      call.on('error', reject);
      call.on('end', () => resolve(Buffer.concat(out)));
      call.write({ target: { container_id: 'main', port } });
      call.write({ data });
      call.end();
    });
  }
}

async function main() {
  const [address, token, image] = process.argv.slice(2);
  const server = new Server(address, fs.readFileSync(token, 'utf8').trim());
  const box = await server.command('create', image, 'sh', '-c', 'nc -ll -p 7 -e cat');
  try {
    await server.command('start', box);
    console.log((await server.exec(box, ['echo', 'hello from', 'a sandbox'])).out.toString().trim());
    const data = crypto.randomBytes(3 << 20);
    assert.strictEqual((await server.write(box, '/file', data)).size, data.length);
    assert((await server.read(box, '/file')).equals(data));
    console.log('3 MB there and back');
    while (!await server.listens(box, 7)) await new Promise((resolve) => setTimeout(resolve, 50));
    console.log((await server.talk(box, 7, Buffer.from('through a port'))).toString());
  } finally {
    await server.command('rm', '-f', box);
  }
}

main().then(() => process.exit(0), (error) => {
  console.error(error.message);
  process.exit(1);
});
