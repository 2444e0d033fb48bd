//! A first kernel, and that all that nvcc wrote is understood.

use ssmv_emulator::*;

#[test]
fn add_vectors() {
    let text = r#"
.version 7.0
.target sm_80
.address_size 64
.visible .entry add(.param .u64 a, .param .u64 b, .param .u64 c, .param .u32 n)
{
    .reg .pred %p<2>;
    .reg .f32 %f<4>;
    .reg .b32 %r<6>;
    .reg .b64 %rd<11>;
    ld.param.u64 %rd1, [a];
    ld.param.u64 %rd2, [b];
    ld.param.u64 %rd3, [c];
    ld.param.u32 %r2, [n];
    mov.u32 %r3, %ctaid.x;
    mov.u32 %r4, %ntid.x;
    mov.u32 %r5, %tid.x;
    mad.lo.s32 %r1, %r3, %r4, %r5;
    setp.ge.s32 %p1, %r1, %r2;
    @%p1 bra $L;
    cvta.to.global.u64 %rd4, %rd1;
    mul.wide.s32 %rd5, %r1, 4;
    add.s64 %rd6, %rd4, %rd5;
    cvta.to.global.u64 %rd7, %rd2;
    add.s64 %rd8, %rd7, %rd5;
    ld.global.f32 %f1, [%rd8];
    ld.global.f32 %f2, [%rd6];
    add.f32 %f3, %f2, %f1;
    cvta.to.global.u64 %rd9, %rd3;
    add.s64 %rd10, %rd9, %rd5;
    st.global.f32 [%rd10], %f3;
$L:
    ret;
}
"#;
    let module = Module::parse("add.ptx", text).expect("parse");
    let memory = Memory::new(1 << 20);
    let loaded = module.load(&memory).expect("load");
    let n = 1000u32;
    let [a, b, c] = [0; 3].map(|_| memory.alloc(4 * u64::from(n)).expect("alloc"));
    let bytes = |f: &dyn Fn(u32) -> f32| (0..n).flat_map(|i| f(i).to_le_bytes()).collect::<Vec<u8>>();
    memory.write(a, &bytes(&|i| i as f32)).expect("write");
    memory.write(b, &bytes(&|i| 0.5 * i as f32)).expect("write");
    let geometry = Geometry { grid: [4, 1, 1], block: [256, 1, 1], shared: 0 };
    let args = [
        a.to_le_bytes().to_vec(),
        b.to_le_bytes().to_vec(),
        c.to_le_bytes().to_vec(),
        n.to_le_bytes().to_vec(),
    ];
    let args: Vec<&[u8]> = args.iter().map(|a| a.as_slice()).collect();
    let report = launch(&memory, &loaded, "add", &geometry, &args, &Options::default()).expect("launch");
    let mut out = vec![0; 4 * n as usize];
    memory.read(c, &mut out).expect("read");
    assert_eq!(out, bytes(&|i| 1.5 * i as f32));
    println!("{report:?}");
}

#[test]
fn parse_fixtures() {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cuda");
    let mut failed = 0;
    for entry in std::fs::read_dir(dir).expect("dir") {
        let path = entry.expect("entry").path();
        if path.extension().is_some_and(|e| e == "ptx") {
            let text = std::fs::read_to_string(&path).expect("text");
            match Module::parse(&path.file_name().expect("name").to_string_lossy(), &text) {
                Ok(module) => println!("{}: {} kernels", path.display(), module.kernels().count()),
                Err(error) => {
                    failed += 1;
                    println!("{error}");
                }
            }
        }
    }
    assert_eq!(failed, 0);
}
