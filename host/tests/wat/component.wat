;; A component that fits the world of the host; a test puts the misbehaviour into its start function or its handler.
(component
  (import "wasi:http/types@0.2.0" (instance $types
    (export "incoming-request" (type (sub resource)))
    (export "response-outparam" (type (sub resource)))))
  (alias export $types "incoming-request" (type $request))
  (alias export $types "response-outparam" (type $outparam))
  (core module $code
    (memory 1)
    (table 1 funcref)
    (func $start (; start ;))
    (start $start)
    (func $handle (export "handle") (param i32 i32) (; handle ;)))
  (core instance $instance (instantiate $code))
  (core module $empty)
  (; more ;)
  (func $handle (param "request" (own $request)) (param "response-out" (own $outparam))
    (canon lift (core func $instance "handle")))
  (instance $handler (export "handle" (func $handle)))
  (export "wasi:http/incoming-handler@0.2.0" (instance $handler)))
