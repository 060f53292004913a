// node, a chat: each line is written to every other socket. Usage: node chat.js PORT
'use strict';
const net = require('net');

const LONGEST = 4096;
const members = new Map(); // sockets, by name
const slow = new Set();    // members with more than 64 KiB waiting: while there are any ...
const held = new Set();    // ... these authors are not read from
let guests = 0;

function tellOthers(author, text) {
    if (text === '')
        return;
    const bytes = Buffer.from(text);
    for (const member of members.values())
        if (member !== author && !member.write(bytes))
            slow.add(member);
    if (slow.size > 0 && members.has(author.name)) {
        held.add(author);
        author.pause();
    }
}

function forgive(member) {
    slow.delete(member);
    if (slow.size > 0)
        return;
    for (const author of held)
        author.resume();
    held.clear();
}

function rename(author, name) {
    const was = author.name;
    members.delete(was);
    members.set(name, author);
    author.name = name;
    author.write(`* you are ${name}\n`);
    return `* ${was} is now ${name}\n`;
}

// Obeys a command; returns what the others are to read.
function take(author, line) {
    if (!line.startsWith('/'))
        return `${author.name}: ${line.endsWith('\r') ? line.slice(0, -1) : line}\n`;
    const [, command, name] = line.trim().match(/^(\S+) ?(.*)$/);
    if (command === '/nick' && /^[\w-]{1,32}$/.test(name) && !members.has(name))
        return rename(author, name);
    if (command === '/who')
        author.write(`* here: ${[...members.keys()].join(' ')}\n`);
    else if (command === '/quit')
        author.end();
    else
        author.write('* no\n');
    return '';
}

function join(socket) {
    let rest = '';
    socket.name = `guest${++guests}`;
    members.set(socket.name, socket);
    socket.setEncoding('utf8');
    socket.on('data', (data) => {
        const lines = (rest + data).split('\n');
        rest = lines.pop();
        if (rest.length > LONGEST)
            socket.destroy();
        tellOthers(socket, lines.map((line) => take(socket, line)).join(''));
    });
    socket.on('drain', () => forgive(socket));
    socket.on('error', () => socket.destroy());
    socket.on('close', () => {
        members.delete(socket.name);
        held.delete(socket);
        forgive(socket);
        tellOthers(socket, `* ${socket.name} left\n`);
    });
    socket.write(`* you are ${socket.name}, ${members.size} here\n`);
    tellOthers(socket, `* ${socket.name} joined\n`);
}

net.createServer({ noDelay: true, highWaterMark: 65536 }, join)
    .listen({ host: '127.0.0.1', port: Number(process.argv[2]), backlog: 4096 });
