// Node's http and the `ws` package, answering every request and echoing every message.
"use strict";
const http = require("http");
const { WebSocketServer } = require("../../interop/node_modules/ws");

const server = http.createServer((request, response) => {
  request.resume();
  request.on("end", () => {
    response.writeHead(200, { "Content-Type": "application/json" });
    response.end("{}");
  });
});
const sockets = new WebSocketServer({ server, maxPayload: 1 << 25, perMessageDeflate: true });
sockets.on("connection", (socket) => {
  socket.on("error", () => {});
  socket.on("message", (data, isBinary) => socket.send(data, { binary: isBinary }));
});
server.listen(Number(process.argv[2]), "127.0.0.1");
