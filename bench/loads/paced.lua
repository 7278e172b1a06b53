-- Milliseconds a connection rests before each request; at random, so that the 64 do not march in step.
function delay()
  return math.random(5, 15)
end
