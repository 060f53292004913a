// node: each socket piped into itself. Usage: node node.js PORT
'use strict';
const net = require('net');

const options = { allowHalfOpen: true, noDelay: true };
const server = net.createServer(options, (socket) => {
    socket.on('error', () => socket.destroy());
    socket.pipe(socket);
});
server.listen({ host: '127.0.0.1', port: Number(process.argv[2]), backlog: 4096 });
