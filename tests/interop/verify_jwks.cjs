// verify_jwks.cjs TOKEN KEY_SET ALGORITHM: verifies a token with jsonwebtoken and public keys.
const { createPublicKey } = require("node:crypto");
const { decode, verify } = require("jsonwebtoken");

const [token, keySet, algorithm] = process.argv.slice(2);
const { kid } = decode(token, { complete: true }).header;
const key = JSON.parse(keySet).keys.find((one) => one.kid === kid);
const publicKey = createPublicKey({ key, format: "jwk" });
console.log(JSON.stringify(verify(token, publicKey, { algorithms: [algorithm] })));
