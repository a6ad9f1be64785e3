//! Every verdict of the bitmaps equals the oracle's: for thousands of random clusters compiled at once, and for random sequences of
//! changes, after which the image also equals that of a fresh compiler in every verdict. Images go through bytes and back first.

use crate::clusters::{Cluster, change, namespace, pod, policy};
use heddle_image::Image;
use heddle_policy::{Compiler, Enforced, Limits};
use proptest::prelude::*;

fn through_bytes(compiler: &mut Compiler) -> Image {
    Image::decode(&compiler.update().unwrap().encode()).unwrap()
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, max_shrink_iters: 4000, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config(2000))]

    #[test]
    fn compiled_at_once(namespaces in prop::collection::vec(namespace(), 0..4), pods in prop::collection::vec(pod(), 0..6),
                        policies in prop::collection::vec(policy(), 0..5)) {
        let (cluster, mut compiler) = Cluster::build(namespaces, pods, policies);
        cluster.compare(&compiler.update().unwrap())?;
        cluster.compare(&through_bytes(&mut compiler))?;
    }
}

proptest! {
    #![proptest_config(config(1000))]

    #[test]
    fn change_by_change(changes in prop::collection::vec(change(), 1..40), idle_classes in prop::sample::select(vec![0, 1, 256])) {
        let limits = Limits { idle_classes, ..Limits::default() };
        let (mut cluster, mut compiler) = (Cluster::default(), Compiler::new(Enforced::Cluster, limits));
        let half = changes.len() / 2;
        for (at, change) in changes.into_iter().enumerate() {
            cluster.apply(change, &mut compiler);
            if at == half {
                cluster.compare(&through_bytes(&mut compiler))?;
            }
        }
        cluster.compare(&through_bytes(&mut compiler))?;
    }
}
