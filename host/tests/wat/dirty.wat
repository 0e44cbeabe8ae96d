;; Checks that its memory, tables and globals are as the component has them, traps if they are not, and then writes all over them.
;; A test puts in how far apart it writes (STEP, in bytes) and by how many pages its memory grows (GROWTH).
(component
  (import "wasi:http/types@0.2.0" (instance $types
    (export "incoming-request" (type (sub resource)))
    (export "response-outparam" (type (sub resource)))))
  (alias export $types "incoming-request" (type $request))
  (alias export $types "response-outparam" (type $outparam))
  (core module $code
    ;; 6 MiB, of which the last four fifths have an image; in front of it, and where it grows, there are only zeros.
    (memory 96)
    (data (i32.const 0x100000) "in front")
    (data (i32.const 0x5ffff8) "at last.")
    (table $table 3000 funcref)
    (elem (table $table) (i32.const 7) func $nothing)
    (global $written (mut i64) (i64.const 0))
    (func $nothing)
    (func $check-memory (param $at i32)
      (local $expected i64)
      (loop $next
        (local.set $expected (i64.const 0))
        (if (i32.eq (local.get $at) (i32.const 0x100000)) (then (local.set $expected (i64.const 0x746e6f7266206e69))))
        (if (i32.eq (local.get $at) (i32.const 0x5ffff8)) (then (local.set $expected (i64.const 0x2e7473616c207461))))
        (if (i64.ne (i64.load (local.get $at)) (local.get $expected)) (then unreachable))
        (local.set $at (i32.add (local.get $at) (i32.const 8)))
        (br_if $next (i32.lt_u (local.get $at) (i32.shl (memory.size) (i32.const 16))))))
    (func $check-table
      (local $at i32)
      (loop $next
        (if (i32.ne (ref.is_null (table.get $table (local.get $at))) (i32.ne (local.get $at) (i32.const 7)))
          (then unreachable))
        (local.set $at (i32.add (local.get $at) (i32.const 1)))
        (br_if $next (i32.lt_u (local.get $at) (table.size $table)))))
    (func $write
      (local $at i32)
      (loop $next
        (i64.store (local.get $at) (i64.const 0x5555555555555555))
        (local.set $at (i32.add (local.get $at) (i32.const STEP)))
        (br_if $next (i32.lt_u (local.get $at) (i32.shl (memory.size) (i32.const 16)))))
      (local.set $at (i32.const 0))
      (loop $next
        (table.set $table (local.get $at) (ref.func $nothing))
        (local.set $at (i32.add (local.get $at) (i32.const 3)))
        (br_if $next (i32.lt_u (local.get $at) (table.size $table))))
      (table.set $table (i32.const 7) (ref.null func))
      (global.set $written (i64.const 1)))
    (func $handle (export "handle") (param i32 i32)
      (if (i32.ne (memory.size) (i32.const 96)) (then unreachable))
      (if (i32.ne (table.size $table) (i32.const 3000)) (then unreachable))
      (if (i64.ne (global.get $written) (i64.const 0)) (then unreachable))
      (drop (memory.grow (i32.const GROWTH)))
      (drop (table.grow $table (ref.null func) (i32.const 1000)))
      (call $check-memory (i32.const 0))
      (call $check-table)
      (call $write)))
  (core instance $instance (instantiate $code))
  (func $handle (param "request" (own $request)) (param "response-out" (own $outparam))
    (canon lift (core func $instance "handle")))
  (instance $handler (export "handle" (func $handle)))
  (export "wasi:http/incoming-handler@0.2.0" (instance $handler)))
