// verify.cjs TOKEN SECRET: verifies a token with jsonwebtoken and prints its claims.
const { verify } = require("jsonwebtoken");

const [token, secret] = process.argv.slice(2);
console.log(JSON.stringify(verify(token, secret, { algorithms: ["HS256"] })));
