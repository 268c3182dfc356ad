// An HTTP server of Node that writes down every whole request it sees, one JSON object a line.
// node node.js LOG PORT strict|lenient
const fs = require('fs');
const http = require('http');
const [log, port, parser] = process.argv.slice(2);
const out = fs.openSync(log, 'a');
const options = { insecureHTTPParser: parser === 'lenient', keepAliveTimeout: 120000 };
http.createServer(options, (request, response) => {
  const parts = [];
  request.on('data', (part) => parts.push(part));
  request.on('error', () => {});
  request.on('end', () => {
    const seen = { method: request.method, target: request.url, hex: Buffer.concat(parts).toString('hex') };
    fs.writeSync(out, JSON.stringify(seen) + '\n');
    const text = request.method + ' ' + request.url;
    response.writeHead(200, { 'Content-Length': Buffer.byteLength(text), 'X-Peer': request.socket.remotePort });
    response.end(text);
  });
}).listen(Number(port), '127.0.0.1');
