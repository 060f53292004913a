// node: each socket piped into itself; with TLS if there is a file with a certificate and its key.
// Usage: node echo.js PORT [PEM]
'use strict';
const fs = require('fs');
const net = require('net');
const tls = require('tls');

const options = { allowHalfOpen: true, noDelay: true };
const echo = (socket) => {
    socket.on('error', () => socket.destroy());
    socket.pipe(socket);
};
const secure = (pem) => tls.createServer({ ...options, cert: pem, key: pem }, echo);
const server = process.argv[3] ? secure(fs.readFileSync(process.argv[3]))
                               : net.createServer(options, echo);
server.listen({ host: '127.0.0.1', port: Number(process.argv[2]), backlog: 4096 });
