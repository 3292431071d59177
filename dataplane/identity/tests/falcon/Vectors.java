// Makes the known answers in bouncy-castle-1.80.txt: FALCON-1024 as submitted to NIST in round 3.
//
//   java -cp bcprov.jar Vectors.java > bouncy-castle-1.80.txt
//
// One vector a line, in hexadecimal: public key, message, signature.

import java.security.SecureRandom;
import org.bouncycastle.crypto.AsymmetricCipherKeyPair;
import org.bouncycastle.crypto.params.ParametersWithRandom;
import org.bouncycastle.pqc.crypto.falcon.FalconKeyGenerationParameters;
import org.bouncycastle.pqc.crypto.falcon.FalconKeyPairGenerator;
import org.bouncycastle.pqc.crypto.falcon.FalconParameters;
import org.bouncycastle.pqc.crypto.falcon.FalconPublicKeyParameters;
import org.bouncycastle.pqc.crypto.falcon.FalconSigner;
import org.bouncycastle.util.encoders.Hex;

public class Vectors {
    private static final int VECTORS = 3;

    public static void main(String[] arguments) throws Exception {
        SecureRandom random = new SecureRandom();
        FalconKeyPairGenerator generator = new FalconKeyPairGenerator();
        generator.init(new FalconKeyGenerationParameters(random, FalconParameters.falcon_1024));
        for (int i = 0; i < VECTORS; i++) {
            AsymmetricCipherKeyPair pair = generator.generateKeyPair();
            byte[] message = new byte[33 * (i + 1)];
            random.nextBytes(message);
            FalconSigner signer = new FalconSigner();
            signer.init(true, new ParametersWithRandom(pair.getPrivate(), random));
            byte[] signature = signer.generateSignature(message);
            byte[] key = ((FalconPublicKeyParameters) pair.getPublic()).getH();
            System.out.println(Hex.toHexString(key) + " " + Hex.toHexString(message) + " "
                    + Hex.toHexString(signature));
        }
    }
}
