// Sends with nodemailer, as many messages at once as asked for; says the replies as JSON.
import { readFileSync } from "node:fs";
import nodemailer from "nodemailer";

const wanted = JSON.parse(process.argv[2]);
const transport = nodemailer.createTransport({
  host: wanted.host,
  port: wanted.port,
  secure: wanted.implicit,
  requireTLS: !wanted.implicit,
  tls: { ca: readFileSync(wanted.ca), servername: wanted.host },
  authMethod: wanted.mechanism,
  auth: { user: wanted.user, pass: wanted.password },
  pool: true,
  maxConnections: 4,
});
const sent = Array.from({ length: wanted.messages }, (_, number) =>
  transport.sendMail({
    from: wanted.from,
    to: wanted.to,
    subject: `${wanted.subject} ${number}`,
    text: "From nodemailer.\n.\nA line with a dot above it.",
    attachments: [{ filename: "scan.bin", content: Buffer.alloc(50_000, number) }],
  }),
);
const replies = (await Promise.all(sent)).map((info) => info.response);
transport.close();
console.log(JSON.stringify(replies));
