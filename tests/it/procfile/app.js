// A web dyno of the tests, in JavaScript: as app.py, and on whatever `localhost` is first.
const fs = require('fs');
const http = require('http');
const { DYNO, RELEASE, PORT } = process.env;

const server = http.createServer((request, response) => {
  request.resume();
  request.on('end', () => {
    const body = `${DYNO} ${RELEASE}`;
    setTimeout(() => response.end(body), request.url === '/slow' ? 50 : 0);
  });
});
server.keepAliveTimeout = 95000;
// A test that failed leaves nobody who would end this program.
setInterval(() => fs.existsSync('app.js') || process.exit(), 1000);
server.listen(Number(PORT), 'localhost', () => console.log('listens'));
